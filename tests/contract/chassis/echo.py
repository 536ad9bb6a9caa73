"""A real server with one method of each kind of RPC, all doing what a test asks of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from trivium.common.v1 import transfer_pb2
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.registry.v1 import registry_pb2, registry_pb2_grpc

from services.chassis.config import ServiceSettings
from services.chassis.context import Identity, Role, current
from services.chassis.credentials import Authenticator
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import MethodPolicy
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, Serving, running
from tests.harness.timeouts import HANG_SECONDS

LOOPBACK = "127.0.0.1:0"
AUTHORISED = (("authorization", "Bearer key-of-acme"),)

Act = Callable[[Any], Awaitable[Any]]


class Held:
    """An ``act`` that says when it begins, waits until it may go on, and says when it has ended, one way or the other."""

    def __init__(self) -> None:
        self.began, self.go, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: Any) -> None:
        """Works for one request."""
        self.began.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()


class KnownKeys:
    """Knows two tenants by fixed credentials and counts how often it is asked."""

    def __init__(self, *roles: Role) -> None:
        self.asked = 0
        self.roles = frozenset(roles or {Role.DEVELOPER})

    async def authenticate(self, credential: str) -> Identity:
        """``key-of-TENANT`` is a developer of TENANT, or has the roles that the test gives."""
        self.asked += 1
        if not credential.startswith("key-of-"):
            raise Failure(Reason.CREDENTIAL_INVALID)
        tenant = credential.removeprefix("key-of-")
        return Identity(tenant, f"{tenant}/somebody", self.roles, assertion=credential)


@dataclass
class Echo:
    """Three servicers whose four methods await ``act`` with the request and answer with the tenant."""

    act: Act
    seen: list[Any] = field(default_factory=list)

    async def unary_unary(self, request: Any, context: Any) -> Any:
        await self._do(request)
        return embedder_pb2.EmbedResponse(model=current().tenant_id)

    async def unary_stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield generator_pb2.GenerateResponse(delta=generator_pb2.Delta(text=current().tenant_id))
        await self._do(request)
        yield generator_pb2.GenerateResponse(delta=generator_pb2.Delta(text=current().tenant_id))

    async def stream_unary(self, request_iterator: Any, context: Any) -> Any:
        async for request in request_iterator:
            await self._do(request)
        return registry_pb2.UploadBlobResponse()

    async def stream_stream(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        async for request in request_iterator:
            await self._do(request)
            yield embedder_pb2.EmbedStreamResponse(response=embedder_pb2.EmbedResponse(model=current().tenant_id))

    async def _do(self, request: Any) -> None:
        self.seen.append(current())
        await self.act(request)

    def registrations(self, policies: Mapping[str, MethodPolicy]) -> list[Registration]:
        embedder: Any = embedder_pb2_grpc.EmbedderServiceServicer()
        embedder.Embed, embedder.EmbedStream = self.unary_unary, self.stream_stream
        generator: Any = generator_pb2_grpc.GeneratorServiceServicer()
        generator.Generate = self.unary_stream
        generator.WatchAdapters = self.unary_stream
        registry: Any = registry_pb2_grpc.RegistryServiceServicer()
        registry.UploadBlob = self.stream_unary
        hosted: list[tuple[Any, Any, str, tuple[str, ...]]] = [
            (embedder_pb2_grpc.add_EmbedderServiceServicer_to_server, embedder, EMBEDDER, ("Embed", "EmbedStream")),
            (generator_pb2_grpc.add_GeneratorServiceServicer_to_server, generator, GENERATOR, ("Generate",)),
            (registry_pb2_grpc.add_RegistryServiceServicer_to_server, registry, REGISTRY, ("UploadBlob",)),
        ]
        return [
            Registration(add, servicer, name, {item: policies[item] for item in methods if item in policies})
            for add, servicer, name, methods in hosted
        ]


EMBEDDER = "trivium.embedder.v1.EmbedderService"
GENERATOR = "trivium.generator.v1.GeneratorService"
REGISTRY = "trivium.registry.v1.RegistryService"


@dataclass(frozen=True)
class Kind:
    """One of the four kinds: where it is, a request that obeys its rules and one that does not."""

    shape: str
    path: str
    valid: Message
    broken: Message

    @property
    def method(self) -> str:
        """The method's name."""
        return self.path.rpartition("/")[2]


_HEADER = transfer_pb2.UploadHeader(filename="a", size_bytes=1, sha256="0" * 64)
KINDS = (
    Kind(
        "unary_unary",
        f"/{EMBEDDER}/Embed",
        embedder_pb2.EmbedRequest(texts=["a"]),
        embedder_pb2.EmbedRequest(texts=["a"], dimensions=-1),
    ),
    Kind(
        "unary_stream",
        f"/{GENERATOR}/Generate",
        generator_pb2.GenerateRequest(text="a"),
        generator_pb2.GenerateRequest(),
    ),
    Kind(
        "stream_unary",
        f"/{REGISTRY}/UploadBlob",
        registry_pb2.UploadBlobRequest(header=_HEADER),
        registry_pb2.UploadBlobRequest(),
    ),
    Kind(
        "stream_stream",
        f"/{EMBEDDER}/EmbedStream",
        embedder_pb2.EmbedStreamRequest(request=embedder_pb2.EmbedRequest(texts=["a"])),
        embedder_pb2.EmbedStreamRequest(),
    ),
)
UNARY, DOWN, UP, BOTH = KINDS
WATCH = Kind("unary_stream", f"/{GENERATOR}/WatchAdapters", generator_pb2.WatchAdaptersRequest(), UNARY.broken)


async def nothing(_: Any) -> None:
    """What an echo does when a test asks for nothing."""


def settings_in(folder: Path, **fields: Any) -> ServiceSettings:
    """Settings of a server on free loopback ports, with its state in ``folder``."""
    ports = {"listen": LOOPBACK, "admin_listen": LOOPBACK, "metrics_listen": LOOPBACK}
    return ServiceSettings(**{**ports, "data_dir": folder, "drain_seconds": 5.0, **fields})


@asynccontextmanager
async def served(
    folder: Path,
    act: Act = nothing,
    *,
    policies: Mapping[str, MethodPolicy] | None = None,
    authenticator: Authenticator | None = None,
    on_runtime: Callable[[Runtime], None] = lambda _: None,
    **fields: Any,
) -> AsyncIterator[Serving]:
    """An echo server that does ``act`` in every call."""

    @asynccontextmanager
    async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
        on_runtime(runtime)
        yield Echo(act).registrations(policies or {})

    settings = settings_in(folder, **fields)
    async with running(settings, name="echo", build=build, authenticator=authenticator or KnownKeys()) as server:
        yield server


def start(channel: grpc.aio.Channel, kind: Kind, body: Message | bytes | Sequence[Any], **named: Any) -> Any:
    """Begin a call of any kind with raw bytes; ``body`` may be several messages where requests stream."""
    named.setdefault("metadata", AUTHORISED)
    bodies = [body] if isinstance(body, Message | bytes) else list(body)
    raw = [item if isinstance(item, bytes) else item.SerializeToString() for item in bodies]
    method = getattr(channel, kind.shape)(kind.path)
    if not kind.shape.startswith("stream"):
        return method(raw[0], **named)

    async def requests() -> AsyncIterator[bytes]:
        for item in raw:
            yield item

    return method(requests(), **named)


async def finish(call: Any, kind: Kind) -> list[bytes]:
    """All responses of a call of any kind.  Raises AioRpcError."""
    if kind.shape.endswith("unary"):
        return [await call]
    return [message async for message in call]


async def send(
    server: Serving, kind: Kind, body: Message | bytes | Sequence[Any] | None = None, **named: Any
) -> list[bytes]:
    """One whole call over a connection of its own."""
    async with grpc.aio.insecure_channel(server.listen) as channel:
        async with asyncio.timeout(HANG_SECONDS):
            return await finish(start(channel, kind, kind.valid if body is None else body, **named), kind)


@dataclass(frozen=True)
class Refusal:
    """A failed call as a client reads it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    details: dict[str, Any]
    trailers: dict[str, Any]


async def refused(
    server: Serving, kind: Kind, body: Message | bytes | Sequence[Any] | None = None, **named: Any
) -> Refusal:
    """The failure of a call that must fail."""
    try:
        await send(server, kind, body, **named)
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    raise AssertionError("the call succeeded")


def refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Read a failed call."""
    trailers: dict[str, Any] = dict(tuple(error.trailing_metadata() or ()))
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    details = {}
    for packed in status.details:
        name = packed.type_url.rpartition(".")[2]
        message = getattr(error_details_pb2, name)()
        packed.Unpack(message)
        details[name] = message
    info = details.get("ErrorInfo")
    return Refusal(
        error.code(),
        error.details() or "",
        info.reason if info else "",
        dict(info.metadata) if info else {},
        details,
        trailers,
    )
