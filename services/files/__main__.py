"""Serves files: ``python -m services.files``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trivium.files.v1 import file_pb2_grpc, response_pb2_grpc

from services.chassis.runtime import Runtime
from services.chassis.server import Registration, run
from services.files.config import FilesSettings
from services.files.servicer import FileServicer, ResponseServicer
from services.files.verbs import open_verbs

FILES = "trivium.files.v1.FileService"
RESPONSES = "trivium.files.v1.ResponseService"


@asynccontextmanager
async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
    """Open the leaves and hang the servicers over them."""
    async with open_verbs(runtime) as verbs:
        files, responses = FileServicer(verbs), ResponseServicer(verbs)
        yield [
            Registration(file_pb2_grpc.add_FileServiceServicer_to_server, files, FILES),
            Registration(response_pb2_grpc.add_ResponseServiceServicer_to_server, responses, RESPONSES),
        ]


if __name__ == "__main__":
    run(FilesSettings(), name="files", build=build)
