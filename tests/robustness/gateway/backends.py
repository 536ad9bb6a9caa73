"""A gateway whose backends stop at the word that a test means, each behind a cable that the test cuts as a death would.

All backends are one gRPC server of the test's own; what each of them is to the gateway is the cable that leads to it.  A cut
cable ends every connection at once and refuses new ones, as the system does for a process that is killed.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import httpx2
import openai
from trivium.access.v1 import access_pb2, access_pb2_grpc, quota_pb2, quota_pb2_grpc, usage_pb2, usage_pb2_grpc
from trivium.common.v1 import chat_pb2, receipt_pb2, tensor_pb2, transfer_pb2
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.files.v1 import file_pb2, file_pb2_grpc, response_pb2, response_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.registry.v1 import registry_pb2, registry_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc
from trivium.trainer.v1 import training_pb2, training_pb2_grpc

from services.chassis import channels
from tests.cable import Cable
from tests.harness.gateway_in_process import gateway_alone
from tests.stack import eventually

NAMES = ("access", "embedder", "files", "generator", "registry", "retriever", "trainer")
TEXT = "Dogs travel free on the ferry."
PIECE = b"x" * 300_000
PIECES = 4
_BEAT_SECONDS = 0.01
_CALLS = frozenset({"unary_unary", "unary_stream", "stream_unary", "stream_stream"})
FINAL = generator_pb2.Final(receipt=receipt_pb2.Receipt(), finish_reason=chat_pb2.FINISH_REASON_STOP)


class Stops:
    """Where a backend stops: it says that it is there, and goes on when it is let go."""

    def __init__(self) -> None:
        self._at = ""
        self.reached = asyncio.Event()
        self._let_go = asyncio.Event()

    def at(self, word: str) -> None:
        """From here on, stop there."""
        self._at = word
        self.reached, self._let_go = asyncio.Event(), asyncio.Event()

    def let_go(self) -> None:
        """Stop nowhere."""
        self._at = ""
        self._let_go.set()

    async def here(self, word: str) -> None:
        """Stop, where this is the place."""
        if word == self._at:
            self.reached.set()
            await self._let_go.wait()


class Backends(
    access_pb2_grpc.AccessServiceServicer,
    embedder_pb2_grpc.EmbedderServiceServicer,
    file_pb2_grpc.FileServiceServicer,
    generator_pb2_grpc.GeneratorServiceServicer,
    quota_pb2_grpc.QuotaServiceServicer,
    registry_pb2_grpc.RegistryServiceServicer,
    response_pb2_grpc.ResponseServiceServicer,
    retriever_pb2_grpc.RetrieverServiceServicer,
    training_pb2_grpc.TrainingServiceServicer,
    usage_pb2_grpc.UsageServiceServicer,
):
    """Every backend: each answers at once, but where it stops."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        self.recorded: list[str] = []

    async def ExchangeKey(self, request: Any, context: Any) -> access_pb2.ExchangeKeyResponse:
        assertion = access_pb2.Assertion(token="the gateway's own")
        assertion.expire_time.FromSeconds(int(time.time()) + 600)
        return access_pb2.ExchangeKeyResponse(assertion=assertion)

    async def LeaseAllowances(self, request: Any, context: Any) -> quota_pb2.LeaseAllowancesResponse:
        terms = [quota_pb2.TenantTerms(tenant=asked.tenant) for asked in request.tenants]
        return quota_pb2.LeaseAllowancesResponse(tenants=terms)

    async def RecordUsages(self, request: Any, context: Any) -> usage_pb2.RecordUsagesResponse:
        await self.stops.here("RecordUsages")
        self.recorded += [record.request_id for record in request.records]
        return usage_pb2.RecordUsagesResponse(refusals=[""] * len(request.records))

    async def ResolveModel(self, request: Any, context: Any) -> registry_pb2.ResolveModelResponse:
        await self.stops.here("ResolveModel")
        return registry_pb2.ResolveModelResponse(is_base=True, base="big", resolved_name=request.name)

    async def ListCandidates(self, request: Any, context: Any) -> registry_pb2.ListCandidatesResponse:
        await self.stops.here("ListCandidates")
        return registry_pb2.ListCandidatesResponse(etag="1")

    async def Tokenize(self, request: Any, context: Any) -> generator_pb2.TokenizeResponse:
        return generator_pb2.TokenizeResponse(token_ids=[1], context_tokens=1000)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[generator_pb2.GenerateResponse]:
        await self.stops.here("Generate")
        yield generator_pb2.GenerateResponse(opening=generator_pb2.Opening())
        said = generator_pb2.Delta(text="Dogs and cats travel at night. ", token_ids=[1])
        yield generator_pb2.GenerateResponse(delta=said)
        await self.stops.here("a word")
        yield generator_pb2.GenerateResponse(final=FINAL)

    async def Search(self, request: Any, context: Any) -> retriever_pb2.SearchResponse:
        await self.stops.here("Search")
        hit = retriever_pb2.Hit(collection="vs_1", document="d.md", version="0" * 64, end=len(TEXT), text=TEXT)
        sure = retriever_pb2.Answerability(score=0.9, threshold=0.5, answerable=True)
        return retriever_pb2.SearchResponse(hits=[hit], answerability=sure)

    async def GetDocument(self, request: Any, context: Any) -> retriever_pb2.GetDocumentResponse:
        await self.stops.here("GetDocument")
        found = retriever_pb2.Document(document=request.document, collection=request.collection)
        return retriever_pb2.GetDocumentResponse(document=found)

    async def Embed(self, request: Any, context: Any) -> embedder_pb2.EmbedResponse:
        await self.stops.here("Embed")
        rows = len(request.texts)
        data = b"\0\0\x80\x3f\0\0\0\0" * rows
        vectors = tensor_pb2.Tensor(data=data, dtype=tensor_pb2.DTYPE_FLOAT32, shape=[rows, 2])
        return embedder_pb2.EmbedResponse(embeddings=vectors, token_counts=[3] * rows, truncated=[False] * rows)

    async def GetJob(self, request: Any, context: Any) -> training_pb2.GetJobResponse:
        await self.stops.here("GetJob")
        return training_pb2.GetJobResponse(job=training_pb2.Job(job=request.job, state=training_pb2.JOB_STATE_RUNNING))

    async def ReadFile(self, request: Any, context: Any) -> AsyncIterator[file_pb2.ReadFileResponse]:
        await self.stops.here("ReadFile")
        for number in range(PIECES):
            chunk = transfer_pb2.Chunk(offset_bytes=number * len(PIECE), data=PIECE)
            yield file_pb2.ReadFileResponse(chunk=chunk, size_bytes=PIECES * len(PIECE))
            if number == 1:
                await self.stops.here("a piece")

    async def PutResponse(self, request: Any, context: Any) -> response_pb2.PutResponseResponse:
        await self.stops.here("PutResponse")
        return response_pb2.PutResponseResponse(response=request.response)


async def _serving(backends: Backends) -> "tuple[grpc.aio.Server, str]":
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    for add in (
        access_pb2_grpc.add_AccessServiceServicer_to_server,
        embedder_pb2_grpc.add_EmbedderServiceServicer_to_server,
        file_pb2_grpc.add_FileServiceServicer_to_server,
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server,
        quota_pb2_grpc.add_QuotaServiceServicer_to_server,
        registry_pb2_grpc.add_RegistryServiceServicer_to_server,
        response_pb2_grpc.add_ResponseServiceServicer_to_server,
        retriever_pb2_grpc.add_RetrieverServiceServicer_to_server,
        training_pb2_grpc.add_TrainingServiceServicer_to_server,
        usage_pb2_grpc.add_UsageServiceServicer_to_server,
    ):
        add(backends, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, f"127.0.0.1:{port}"


class NotedChannel:
    """A channel that notes the path of each call that is made over it; the retries of a call are one with it."""

    def __init__(self, inner: grpc.aio.Channel, paths: list[str]) -> None:
        self._inner = inner
        self._paths = paths

    def __getattr__(self, name: str) -> Any:
        made = getattr(self._inner, name)
        return self._noted(made) if name in _CALLS else made

    def _noted(self, made: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: str, *arguments: Any, **named: Any) -> Any:
            call = made(path, *arguments, **named)

            def begun(*arguments: Any, **named: Any) -> Any:
                self._paths.append(path)
                return call(*arguments, **named)

            return begun

        return opened


def shortened(config: str, share: float) -> str:
    """Return a service config whose pauses between attempts are this share of what they are."""
    document = json.loads(config)
    for policy in document["methodConfig"]:
        retries = policy.get("retryPolicy", {})
        for name in ("initialBackoff", "maxBackoff"):
            if name in retries:
                retries[name] = f"{float(retries[name].removesuffix('s')) * share:.3f}s"
    return json.dumps(document)


class Doors:
    """The gateway's two doors, and the cables behind it.

    ``receipts`` is where what access did not take waits; ``called`` gets the path of each call that the gateway makes.
    """

    def __init__(self, backends: Backends, cables: dict[str, Cable], receipts: Path, called: list[str]) -> None:
        self.backends = backends
        self.called = called
        self.stops = backends.stops
        # When the first headers of an answer have come.
        self.begun = asyncio.Event()
        self.client: openai.AsyncOpenAI
        self.channel: grpc.aio.Channel
        self.metadata: tuple[tuple[str, str], ...] = ()
        self._receipts = receipts
        self._cables = cables
        self._dead: set[str] = set()
        # Those of them to which the gateway had a connection: it opens none to a backend that it never called.
        self._lost: set[str] = set()

    @property
    def waiting(self) -> int:
        """How many batches of receipts wait for access."""
        return len(list(self._receipts.glob("*.usages")))

    async def hear(self, _: object) -> None:
        """An answer begins."""
        self.begun.set()

    async def kill(self, name: str) -> None:
        """End a backend with all that it was doing."""
        self._dead.add(name)
        if self._cables[name].carries:
            self._lost.add(name)
        await asyncio.to_thread(self._cables[name].cut)

    async def back(self) -> None:
        """Have those that died back, and everything that waited for them done."""
        self.stops.let_go()
        for name in self._dead:
            self._cables[name].mend()
        await asyncio.to_thread(eventually, self._whole, f"the gateway has {self._dead} back", 30)
        self._dead.clear()
        self._lost.clear()

    def _whole(self) -> bool:
        return not self.waiting and all(self._cables[name].carries for name in self._lost)


class Watch:
    """Seconds on the clock since it was begun, without those in which this loop had no processor, or the client used it."""

    def __init__(self) -> None:
        self._began = self._beaten_at = time.monotonic()
        self._starved = 0.0
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            self._take()

    def _take(self) -> None:
        now = time.monotonic()
        self._starved += max(0.0, now - self._beaten_at - 2 * _BEAT_SECONDS)
        self._beaten_at = now

    def stop(self) -> float:
        """How many."""
        self._beating.cancel()
        self._take()
        return self._beaten_at - self._began - self._starved


@asynccontextmanager
async def doors(folder: Path, pause_share: float) -> AsyncGenerator[Doors]:
    """The gateway over its backends, with pauses between attempts that are this share of those that are shipped."""
    called: list[str] = []
    shipped, open_channel = channels.service_config(), channels.open_channel

    def noted(*arguments: Any, **named: Any) -> Any:
        return NotedChannel(open_channel(*arguments, **named), called)

    key_file = folder / "service.key"
    key_file.write_text("tv_service_key")
    backends = Backends(Stops())
    async with AsyncExitStack() as stack:
        stack.enter_context(patch.object(channels, "service_config", lambda: shortened(shipped, pause_share)))
        stack.enter_context(patch.object(channels, "open_channel", noted))
        server, address = await _serving(backends)
        stack.push_async_callback(server.stop, None)
        cables = {name: stack.enter_context(Cable(address)) for name in NAMES}
        stack.callback(backends.stops.let_go)
        addresses: dict[str, Any] = {f"{name}_address": cable.address for name, cable in cables.items()}
        alone = gateway_alone(folder, service_key_file=key_file, **addresses)
        gateway, client, sign = await stack.enter_async_context(alone)
        opened = Doors(backends, cables, folder / "gateway" / "receipts", called)
        key = sign("member", "developer")
        opened.metadata = (("authorization", f"Bearer {key}"),)
        opened.channel = await stack.enter_async_context(grpc.aio.insecure_channel(gateway.listen))
        # Nothing is encrypted here, and reading all certificates takes longer than the call.
        watched = httpx2.AsyncClient(event_hooks={"response": [opened.hear]}, verify=False, timeout=60)
        opened.client = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{client.base_url}/v1", api_key=key, max_retries=0, http_client=watched)
        )
        yield opened
