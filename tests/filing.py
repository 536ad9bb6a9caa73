"""The service of files as a real process beside a stack's access, and a client that keeps files in it."""

import json
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import batch_pb2, batch_pb2_grpc, file_pb2, file_pb2_grpc, response_pb2, response_pb2_grpc

from services.chassis.errors import Code
from services.chassis.status import from_rpc_error
from tests.adapters import digest
from tests.harness.gateway import Gateway
from tests.stack import CHUNK_BYTES, RECONNECTS, Api, Process, Stack, eventually, peer_settings


class Filing:
    """A files process.  It shares access (and its key file) with a stack."""

    def __init__(
        self, data: Path, stack: Stack, environment: Mapping[str, str] | None = None, *, prelude: str = ""
    ) -> None:
        """``prelude`` names a module of the tests that is imported in the service's process first."""
        data.mkdir(parents=True, exist_ok=True)
        self.stack = stack
        self.data = data
        settings = {**peer_settings(stack.access), **(environment or {})}
        self.process = Process("files", data, settings, prelude=prelude).start()
        self._channels: dict[str, grpc.Channel] = {}

    def gateway(self, data: Path, environment: Mapping[str, str] | None = None) -> Gateway:
        """Start a gateway over it; no other peer runs, unless the environment names one.  The caller stops it."""
        settings = {"TRIVIUM_FILES_ADDRESS": self.process.address, **(environment or {})}
        return Gateway(data, self.stack.access, settings).start()

    def close(self) -> None:
        """End it."""
        for channel in self._channels.values():
            channel.close()
        self.process.stop()

    def _channel(self) -> grpc.Channel:
        address = self.process.address
        if address not in self._channels:
            self._channels[address] = grpc.insecure_channel(address, RECONNECTS)
        return self._channels[address]

    def newcomer(self) -> "Keeper":
        """Somebody in a tenant of their own."""
        tenant = self.stack.tenant()
        return self.keeper(self.stack.tenant_key(tenant), tenant)

    def keeper(self, credential: str, tenant: str = "") -> "Keeper":
        """The holder of a credential."""
        channel = self._channel()
        return Keeper(
            Api(file_pb2_grpc.FileServiceStub(channel), credential),
            Api(response_pb2_grpc.ResponseServiceStub(channel), credential),
            Api(batch_pb2_grpc.BatchServiceStub(channel), credential),
            tenant,
            credential,
        )


class Keeper:
    """Files and responses in somebody's hands."""

    def __init__(self, files: Api, responses: Api, batches: Api, tenant: str, credential: str) -> None:
        self.batches = batches
        self.credential = credential
        self.files = files
        self.responses = responses
        self.tenant = tenant

    def upload(self, content: bytes, filename: str = "notes.txt", **fields: Any) -> file_pb2.File:
        """Store a file whole."""
        made: file_pb2.File = self.files.CreateFile(upload(content, filename, **fields)).file
        return made

    def read(self, file: str, offset: int = 0) -> bytes:
        """A file's bytes from an offset, its pieces checked to be in order."""
        content, position = b"", offset
        for message in self.files.ReadFile(file_pb2.ReadFileRequest(file=file, offset_bytes=offset)):
            assert message.chunk.offset_bytes == position
            content += message.chunk.data
            position += len(message.chunk.data)
            size = message.size_bytes
        assert position == size
        return content

    def listed(self, **fields: Any) -> list[str]:
        """The ids of one page."""
        return [item.file for item in self.files.ListFiles(file_pb2.ListFilesRequest(**fields)).files]

    def batch(self, content: bytes, **fields: Any) -> batch_pb2.Batch:
        """Store requests and begin a batch over them."""
        file = self.upload(content, "requests.jsonl", purpose=file_pb2.PURPOSE_BATCH).file
        order = {"endpoint": batch_pb2.BATCH_ENDPOINT_COMPLETIONS, **fields}
        made: batch_pb2.Batch = self.batches.CreateBatch(batch_pb2.CreateBatchRequest(input_file=file, **order)).batch
        return made

    def ended(self, batch: str) -> batch_pb2.Batch:
        """A batch, once it has ended; its service may have been killed meanwhile."""

        def look() -> Any:
            try:
                found = self.batches.GetBatch(batch_pb2.GetBatchRequest(batch=batch)).batch
            except grpc.RpcError as error:
                if from_rpc_error(error).code is not Code.UNAVAILABLE:
                    raise
                return None
            return found if found.HasField("end_time") else None

        found: batch_pb2.Batch = eventually(look, f"{batch} ends")
        return found

    def lines(self, file: str) -> list[dict[str, Any]]:
        """The lines of a file that a batch wrote."""
        return [json.loads(line) for line in self.read(file).splitlines()]

    def put(
        self, response: str, previous: str = "", payload: bytes = b"answer", items: Mapping[str, bytes] = {}
    ) -> Any:
        """Store a response."""
        stored = response_pb2.StoredResponse(response=response, previous_response=previous, payload=payload, model="m")
        inputs = [response_pb2.InputItem(item=name, payload=content) for name, content in items.items()]
        return self.responses.PutResponse(response_pb2.PutResponseRequest(response=stored, input_items=inputs)).response


def upload(
    content: bytes,
    filename: str = "notes.txt",
    *,
    purpose: Any = file_pb2.PURPOSE_USER_DATA,
    sha256: str = "",
    size: int | None = None,
    until: int | None = None,
    ended: bool = True,
    **header: Any,
) -> Iterator[file_pb2.CreateFileRequest]:
    """The messages of an upload; ``sha256`` and ``size`` may lie, ``until`` and ``ended`` break off."""
    yield file_pb2.CreateFileRequest(header=file_pb2.FileHeader(filename=filename, purpose=purpose, **header))
    last = len(content) if until is None else until
    for start in range(0, last, CHUNK_BYTES):
        chunk = transfer_pb2.Chunk(offset_bytes=start, data=content[start : min(start + CHUNK_BYTES, last)])
        yield file_pb2.CreateFileRequest(chunk=chunk)
    if ended:
        end = file_pb2.FileEnd(size_bytes=len(content) if size is None else size, sha256=sha256 or digest(content))
        yield file_pb2.CreateFileRequest(end=end)


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())
