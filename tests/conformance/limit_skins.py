"""What holds a place, at both doors, behind one face: a verb each, which says ``answered`` or the reason of the refusal."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Protocol

import grpc
import httpx
from trivium.common.v1 import chat_pb2, transfer_pb2
from trivium.embedder.v1 import embedder_pb2
from trivium.gateway.v1 import (
    batches_pb2,
    batches_pb2_grpc,
    embeddings_pb2,
    embeddings_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
)

from gateway.http.waiting import EXPECTED_MS
from services.chassis.status import from_rpc_error

ANSWERED = "answered"


class Skin(Protocol):
    """One door, for one caller.  ``waits`` is for how many seconds it says that it waits, None where it does not say."""

    async def chat(self) -> str:
        """A chat of which every token is told."""

    async def whole_chat(self) -> str:
        """One that is told at its end, where the door has such."""

    async def batch(self, waits: float | None = None) -> str:
        """What one batch is."""

    async def embed(self) -> str:
        """A vector."""

    async def download(self) -> str:
        """The bytes of a file."""

    async def upload(self, *, whole: bool) -> str:
        """A file, of which the end does not come unless it is ``whole``."""


class GrpcSkin:
    """``trivium.gateway.v1``."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        self._batches = batches_pb2_grpc.BatchServiceStub(channel)
        self._embeddings = embeddings_pb2_grpc.EmbeddingServiceStub(channel)
        self._files = files_pb2_grpc.FileServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def chat(self) -> str:
        """As Skin."""
        turn = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Hello")
        request = gateway_pb2.ChatRequest(model="base", messages=[turn])
        return await _told(_drained(self._gateway.Chat(request, metadata=self._metadata)))

    async def whole_chat(self) -> str:
        """As Skin: there is but one kind here."""
        return await self.chat()

    async def batch(self, waits: float | None = None) -> str:
        """As Skin."""
        request = batches_pb2.GetBatchRequest(batch="batch-1")
        return await _told(self._batches.GetBatch(request, metadata=self._metadata, timeout=waits))

    async def embed(self) -> str:
        """As Skin."""
        request = embeddings_pb2.CreateEmbeddingsRequest(request=embedder_pb2.EmbedRequest(model="m", texts=["a"]))
        return await _told(self._embeddings.CreateEmbeddings(request, metadata=self._metadata))

    async def download(self) -> str:
        """As Skin."""
        request = files_pb2.ReadFileRequest(file="file-1")
        return await _told(_drained(self._files.ReadFile(request, metadata=self._metadata)))

    async def upload(self, *, whole: bool) -> str:
        """As Skin."""
        call = self._files.CreateFile(metadata=self._metadata)
        with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            await call.write(files_pb2.CreateFileRequest(chunk=transfer_pb2.Chunk(data=b"some of it")))
            if whole:
                await call.done_writing()
        return await _told(call)


async def _told(answer: Awaitable[Any]) -> str:
    try:
        await answer
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).reason.lower()
    return ANSWERED


async def _drained(events: Any) -> None:
    async for _ in events:
        pass


class HttpSkin:
    """OpenAI's shapes."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self._client = client
        self._key = key

    async def chat(self) -> str:
        """As Skin."""
        return await self._chat(stream=True)

    async def whole_chat(self) -> str:
        """As Skin."""
        return await self._chat(stream=False)

    async def _chat(self, *, stream: bool) -> str:
        body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        return await self._sent("POST", "/v1/chat/completions", json=body)

    async def batch(self, waits: float | None = None) -> str:
        """As Skin."""
        headers = {} if waits is None else {EXPECTED_MS: str(1000 * waits)}
        return await self._sent("GET", "/v1/batches/batch-1", headers=headers)

    async def embed(self) -> str:
        """As Skin."""
        return await self._sent("POST", "/v1/embeddings", json={"model": "m", "input": "a"})

    async def download(self) -> str:
        """As Skin."""
        return await self._sent("GET", "/v1/files/file-1/content")

    async def upload(self, *, whole: bool) -> str:
        """As Skin."""
        form: dict[str, Any] = {"data": {"purpose": "user_data"}, "files": {"file": ("a.txt", b"some of it")}}
        if whole:
            return await self._sent("POST", "/v1/files", **form)
        request = self._client.build_request("POST", "/v1/files", headers=self._headers(), **form)
        return _reason(await stalled(request, request.read()[:-20]))

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"}

    async def _sent(self, verb: str, path: str, **more: Any) -> str:
        headers = self._headers() | more.pop("headers", {})
        return _reason(await self._client.request(verb, path, headers=headers, **more))


def _reason(answer: httpx.Response) -> str:
    return ANSWERED if answer.status_code == httpx.codes.OK else str(answer.json()["error"]["code"])


async def stalled(request: httpx.Request, some: bytes) -> httpx.Response:
    """What is answered to a request of whose body no more than this comes."""
    reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
    try:
        head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        writer.write(head.encode() + b"\r\n" + some)
        async with asyncio.timeout(10):
            status = int((await reader.readline()).split()[1])
            lines = [line.decode().strip() async for line in _lines(reader)]
            headers = dict(line.split(": ", 1) for line in lines)
            body = b"".join([chunk async for chunk in _chunks(reader)])
        return httpx.Response(status, headers={**headers, "transfer-encoding": "identity"}, content=body)
    finally:
        writer.close()


async def _lines(reader: asyncio.StreamReader) -> Any:
    while (line := await reader.readline()).strip():
        yield line


async def _chunks(reader: asyncio.StreamReader) -> Any:
    while size_bytes := int(await reader.readline(), 16):
        yield (await reader.readexactly(size_bytes + 2))[:-2]
