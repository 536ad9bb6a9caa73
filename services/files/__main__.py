"""Serves files: ``python -m services.files``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.files.v1 import batch_pb2_grpc, file_pb2_grpc, response_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.files.config import FilesSettings
from services.files.servicer import BatchServicer, FileServicer, ResponseServicer
from services.files.verbs import open_verbs

PACKAGE = "trivium.files.v1"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the leaves and hang the servicers over them."""
    async with open_verbs(runtime) as verbs:
        add_files, add_batches, add_responses = (
            file_pb2_grpc.add_FileServiceServicer_to_server,
            batch_pb2_grpc.add_BatchServiceServicer_to_server,
            response_pb2_grpc.add_ResponseServiceServicer_to_server,
        )
        yield [
            Registration(add_files, FileServicer(verbs), f"{PACKAGE}.FileService"),
            Registration(add_batches, BatchServicer(verbs), f"{PACKAGE}.BatchService"),
            Registration(add_responses, ResponseServicer(verbs), f"{PACKAGE}.ResponseService"),
        ]


if __name__ == "__main__":
    run(FilesSettings(), name="files", build=build)
