"""Calls that hold a place, over both transports: each ends as ``answered``, or with the reason of its rejection."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import grpc
import httpx

from gateway.http.waiting import EXPECTED_MS
from services.chassis.status import from_rpc_error
from tests.conformance.runner import Arguments, Operation
from tests.conformance.tables import chat, files
from tests.harness.timeouts import HANG_SECONDS

ANSWERED = "answered"
CALLS, STREAMS = "tenant_calls_exhausted", "tenant_streams_exhausted"
# One call and one stream at once.
LIMITS = {"max_calls_per_tenant": 1, "max_streams_per_tenant": 1}
US, THEM = "acme", "globex"
_CHAT = (chat.OPERATIONS["chat"], {"messages": (("user", "Hello"),)})
_UPLOAD = (files.OPERATIONS["create_file"], {"content": b"some of it", "filename": "a.txt", "purpose": "user_data"})
_OPERATIONS: Mapping[str, tuple[Operation, Arguments]] = {
    "chat": _CHAT,
    # Over gRPC there is but one kind of chat.
    "whole_chat": _CHAT,
    "batch": (files.OPERATIONS["get_batch"], {"batch": "batch-1"}),
    "embed": (files.OPERATIONS["create_embeddings"], {"model": "m", "texts": ["a"]}),
    "download": (files.OPERATIONS["read_file"], {"file": "file-1"}),
    "upload": _UPLOAD,
    # Its end does not come.
    "stalled_upload": _UPLOAD,
}
_STREAMS = {"chat": True, "whole_chat": False}


@dataclass(frozen=True, slots=True)
class Place:
    """A row: calls that hold a place, a further call of the same tenant or another, and how that one ends."""

    name: str
    inside: tuple[str, ...]
    call: str
    end: str
    tenant: str = US


PLACES = (
    Place("a call too many is refused", ("batch",), "batch", CALLS),
    Place("vectors are a call", ("embed",), "batch", CALLS),
    Place("a stream too many is refused", ("chat",), "chat", STREAMS),
    Place("a chat that is sent at its end counts as a stream", ("whole_chat",), "chat", STREAMS),
    Place("a chat is one beside such", ("chat",), "whole_chat", STREAMS),
    Place("a download is a stream", ("download",), "whole_chat", STREAMS),
    Place("an upload is a stream", ("stalled_upload",), "download", STREAMS),
    Place("no upload where there is a stream too many", ("chat",), "upload", STREAMS),
    Place("a stream holds no place of a call", ("chat",), "batch", ANSWERED),
    Place("an upload holds no place of a call", ("stalled_upload",), "embed", ANSWERED),
    Place("a call holds no place of a stream", ("batch",), "whole_chat", ANSWERED),
    Place("another tenant's calls have their own places", ("batch", "chat"), "batch", ANSWERED, THEM),
    Place("another tenant's streams have their own places", ("batch", "chat"), "whole_chat", ANSWERED, THEM),
)


class AsyncGrpc:
    """``trivium.gateway.v1`` over gRPC, for one caller."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {key}"),)

    async def send(self, name: str, waits: float | None = None) -> str:
        """Return how a call ends.  ``waits`` is its deadline in seconds."""
        operation, arguments = _OPERATIONS[name]
        request, is_stalled = operation.request(arguments), name == "stalled_upload"
        call = operation.call(self._channel)(
            *(() if is_stalled else (request,)), metadata=self._metadata, timeout=waits
        )
        if is_stalled:
            with suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
                await call.write(next(request))
        try:
            if operation.method().server_streaming:
                async for _ in call:
                    pass
            else:
                await call
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason.lower()
        return ANSWERED


class AsyncHttp:
    """OpenAI's routes, for one caller."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self._client = client
        self._key = {"authorization": f"Bearer {key}"}

    async def send(self, name: str, waits: float | None = None) -> str:
        """Return how a call ends.  ``waits`` is for how many seconds the caller says that it waits."""
        operation, arguments = _OPERATIONS[name]
        headers = self._key if waits is None else self._key | {EXPECTED_MS: str(1000 * waits)}
        options = operation.http_request(arguments, stream=_STREAMS.get(name))
        request = self._client.build_request(**options, headers=headers)
        if name == "stalled_upload":
            answer = await stalled(request, request.read()[:-20])
        else:
            answer = await self._client.send(request)
        return ANSWERED if answer.status_code == httpx.codes.OK else str(answer.json()["error"]["code"])


async def stalled(request: httpx.Request, some: bytes) -> httpx.Response:
    """Return the answer to a request of whose body no more than this comes."""
    reader, writer = await asyncio.open_connection(request.url.host, request.url.port)
    try:
        head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        writer.write(head.encode() + b"\r\n" + some)
        async with asyncio.timeout(HANG_SECONDS):
            status = int((await reader.readline()).split()[1])
            lines = [line.decode().strip() async for line in _lines(reader)]
            headers = dict(line.split(": ", 1) for line in lines)
            body = b"".join([chunk async for chunk in _chunks(reader)])
        return httpx.Response(status, headers={**headers, "transfer-encoding": "identity"}, content=body)
    finally:
        writer.close()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while (line := await reader.readline()).strip():
        yield line


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size_bytes := int(await reader.readline(), 16):
        yield (await reader.readexactly(size_bytes + 2))[:-2]
