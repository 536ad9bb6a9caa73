"""One caller for every namespace: opens channels as they are needed, adds the credential, types the errors.

Invariant: a grpc error never reaches the user; every failure is a TriviumError.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import grpc
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random
from trivium.common.v1 import transfer_pb2

from trivium_client.connection import Connection
from trivium_client.errors import InvalidRequestError, ServerError, UnavailableError, from_rpc

CHUNK_BYTES = 256 * 1024
# How long a watch tries to reach a service that has gone away before it gives up.
WATCH_PATIENCE_SECONDS = 120
# How long a call that may be repeated waits for a service that a running suite restarts; it takes about 5 s.
RESTART_PATIENCE_SECONDS = 10.0
_BETWEEN_SECONDS = 0.3
# How long an upload that broke off waits behind its header: what a server refuses on sight must not be lost again.
_REFUSAL_SECONDS = 1.0
_READS = ("Get", "List", "Search", "Resolve", "Explain", "WhoAmI")
T = TypeVar("T")


class Transport:
    """Channels and calls; belongs to one event loop.  `close` ends every channel."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channels: dict[str, grpc.aio.Channel] = {}

    def stub(self, service: str, kind: Callable[[grpc.aio.Channel], Any]) -> Any:
        """A stub of `kind` on the channel to `service`: the generated asynchronous one, which the caller names."""
        if service not in self._channels:
            self._channels[service] = self.connection.open(service)
        return kind(self._channels[service])

    async def call(self, service: str, method: grpc.aio.UnaryUnaryMultiCallable[Any, T], request: Any) -> T:
        """One unary call.  Raises TriviumError.

        Where nobody answers, the service config's retries are over after about 3 s.  A call that has one effect
        however often it is made goes on for RESTART_PATIENCE_SECONDS while a suite on this machine keeps the service.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + RESTART_PATIENCE_SECONDS
        while True:
            try:
                return await method(request, metadata=self.connection.metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc(error, self.connection.addresses[service])
            nobody = isinstance(failure, UnavailableError) and failure.reason == "UNAVAILABLE"
            again = nobody and clock() < until and _repeatable(request)
            if not (again and self.connection.kept_by_a_suite(service)):
                raise failure
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def stream(self, service: str, method: Callable[..., Any], request: Any) -> AsyncGenerator[Any]:
        """The messages of a server stream; leaving early cancels it.  Raises TriviumError."""
        call = method(request, metadata=self.connection.metadata)
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.connection.addresses[service]) from None
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()


def _repeatable(request: Any) -> bool:
    """Whether it reads, or names itself so that a repeat has no second effect."""
    return request.DESCRIPTOR.name.startswith(_READS) or bool(getattr(request, "request_id", ""))


async def download(
    transport: Transport,
    service: str,
    target: Path,
    *,
    sha256: str,
    size_bytes: int,
    receive: Callable[[int], AsyncIterator[bytes]],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a file, whole and as its digest says or not at all; what came before is kept and gone on from.

    `receive` yields the bytes from an offset.  Raises TriviumError (the last of four UnavailableErrors is let
    through), FileExistsError when other content has that name.
    """
    if _is_there(target, sha256):
        return
    partial = target.with_name(f".{target.name}.{sha256[:12]}.partial")
    address = transport.connection.addresses[service]
    async for trial in _trials():
        with trial:
            with partial.open("ab") as file:
                async for piece in receive(file.tell()):
                    file.write(piece)
                    if progress is not None:
                        progress(file.tell(), size_bytes)
    if sha256_of(partial) != sha256:
        partial.unlink()
        raise ServerError(f"what {address} sent as {target.name} is not what its digest says; it was thrown away")
    partial.replace(target)


def _is_there(target: Path, sha256: str) -> bool:
    if not target.exists():
        return False
    if sha256_of(target) != sha256:
        raise FileExistsError(f"{target} exists and holds something else; choose another folder, or move it away")
    return True


def _trials() -> AsyncRetrying:
    return AsyncRetrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_attempt(4),
        wait=wait_exponential(multiplier=0.3, max=5) + wait_random(0, 0.3),
        reraise=True,
    )


def new_request_id() -> str:
    """A fresh idempotency key: a retry inside one call has one effect."""
    return str(uuid.uuid4())


def sha256_of(path: Path) -> str:
    """The digest of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """The plain files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.is_file())


def size_of(path: Path) -> int:
    """The length of a file in bytes."""
    return path.stat().st_size


async def upload(
    transport: Transport,
    service: str,
    path: Path,
    *,
    send: Callable[..., Any],
    committed: Callable[[str], Awaitable[int]],
    frame: Callable[[transfer_pb2.UploadHeader | transfer_pb2.Chunk], Any],
    media_type: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """Send a file in chunks; after a lost connection go on from what the server has.

    `frame` wraps a header or a chunk into the RPC's request, `committed` asks how many
    bytes of a digest are durable, `progress` hears (sent, whole) in bytes.  Raises
    TriviumError; an InvalidRequestError has the file's `sha256` among its variables, and the last of four
    UnavailableErrors is let through.
    """
    size, digest = size_of(path), sha256_of(path)
    address = transport.connection.addresses[service]

    async def attempt(patience_seconds: float) -> Any:
        offset = await committed(digest)
        header = transfer_pb2.UploadHeader(
            filename=path.name,
            size_bytes=size,
            sha256=digest,
            media_type=media_type,
            resume_offset_bytes=min(offset, size),
        )
        frames = _frames(path, header, frame, progress)
        return await _sent(send(metadata=transport.connection.metadata), frames, address, patience_seconds)

    try:
        async for trial in _trials():
            with trial:
                first = trial.retry_state.attempt_number == 1
                return await attempt(0.0 if first else _REFUSAL_SECONDS)
    except InvalidRequestError as refused:
        # What is kept of the refusal is kept under the digest, which its reader has no other way to know.
        refused.variables.setdefault("sha256", digest)
        raise
    raise AssertionError("tenacity always attempts")


def _passes(error: BaseException) -> bool:
    """Whether another attempt may succeed: nobody there, or our own lost attempt is still held open."""
    return isinstance(error, UnavailableError) or getattr(error, "reason", "") == "UPLOAD_IN_PROGRESS"


async def _sent(call: Any, frames: AsyncIterator[Any], address: str, patience_seconds: float) -> Any:
    """The response to a stream of frames; a server that answers before the end is heard at once.

    Behind the first frame, the header, a refusal is waited for so long.
    """
    ended = asyncio.Event()
    call.add_done_callback(lambda _: ended.set())
    try:
        async for frame in frames:
            if call.done():
                break
            await call.write(frame)
            if patience_seconds:
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), patience_seconds)
                patience_seconds = 0.0
        await call.done_writing()
    except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
        # The call ended under our write; how it ended is what awaiting it says.
        pass
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL and not error.trailing_metadata():
            # grpc.aio lost the status to its own failed write; the next attempt gives it time before it writes more.
            raise UnavailableError(f"the upload to {address} broke off", reason="UNAVAILABLE") from None
        raise from_rpc(error, address) from None


async def _frames(
    path: Path,
    header: transfer_pb2.UploadHeader,
    frame: Callable[[transfer_pb2.UploadHeader | transfer_pb2.Chunk], Any],
    progress: Callable[[int, int], None] | None,
) -> AsyncIterator[Any]:
    yield frame(header)
    offset = header.resume_offset_bytes
    # A quarter of a megabyte from the page cache between two sends does not hold the loop up.
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(CHUNK_BYTES):
            yield frame(transfer_pb2.Chunk(offset_bytes=offset, data=piece))
            offset += len(piece)
            if progress is not None:
                progress(offset, header.size_bytes)
