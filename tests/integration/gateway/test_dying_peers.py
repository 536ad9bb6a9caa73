"""A peer that dies while an answer comes: who asked hears of it within a second, in the shape of the door that was used.

The peers are gRPC servers of the test's own, so that each dies at the word that the test means; access is not there.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest
from trivium.common.v1 import receipt_pb2
from trivium.embedder.v1 import embedder_pb2_grpc
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.integration.gateway.test_without_peers import bearer, gateway_alone

TEXT = "Dogs travel free on the ferry."
BODY = {
    "model": "base",
    "messages": [{"role": "user", "content": "Do dogs pay?"}],
    "stream": True,
    "trivium": {"collection": "ferry"},
}
SECOND = 1.0


class Generator(generator_pb2_grpc.GeneratorServiceServicer):
    """Says a word and then nothing more, or ends."""

    def __init__(self, *, ends: bool) -> None:
        self.ends = ends
        self.said = asyncio.Event()

    async def Tokenize(self, request, context):
        return generator_pb2.TokenizeResponse(token_ids=[1], context_tokens=1000)

    async def Generate(self, request, context):
        yield generator_pb2.GenerateResponse(opening=generator_pb2.Opening())
        yield generator_pb2.GenerateResponse(
            delta=generator_pb2.Delta(text="Dogs and cats travel at night. ", token_ids=[1])
        )
        self.said.set()
        if self.ends:
            yield generator_pb2.GenerateResponse(final=generator_pb2.Final(receipt=receipt_pb2.Receipt()))
            return
        await asyncio.Event().wait()


class Retriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Finds one passage, or takes the question and never answers."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent
        self.asked = asyncio.Event()

    async def Search(self, request, context):
        self.asked.set()
        if self.silent:
            await asyncio.Event().wait()
        hit = retriever_pb2.Hit(collection="ferry", document="d.md", version="0" * 64, end=len(TEXT), text=TEXT)
        sure = retriever_pb2.Answerability(score=0.9, threshold=0.5, answerable=True)
        return retriever_pb2.SearchResponse(hits=[hit], answerability=sure)


class Embedder(embedder_pb2_grpc.EmbedderServiceServicer):
    """Takes texts and never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def Embed(self, request, context):
        self.asked.set()
        await asyncio.Event().wait()


class Peers:
    """The three, each on a port of its own."""

    def __init__(self, *, silent: bool = False, ends: bool = False) -> None:
        self.retriever, self.generator, self.embedder = Retriever(silent=silent), Generator(ends=ends), Embedder()
        self.addresses: dict[str, str] = {}
        self._servers: dict[str, grpc.aio.Server] = {}

    async def start(self) -> None:
        hung_up: tuple[tuple[str, Any, Any], ...] = (
            ("retriever", retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, self.retriever),
            ("generator", generator_pb2_grpc.add_GeneratorServiceServicer_to_server, self.generator),
            ("embedder", embedder_pb2_grpc.add_EmbedderServiceServicer_to_server, self.embedder),
        )
        for name, add, servicer in hung_up:
            self._servers[name] = server = grpc.aio.server()
            add(servicer, server)
            self.addresses[f"{name}_address"] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            await server.start()

    async def kill(self, name: str) -> None:
        """End it with all that it was doing."""
        await self._servers[name].stop(None)

    async def stop(self) -> None:
        for name in self._servers:
            await self.kill(name)


@asynccontextmanager
async def asking(tmp_path, **how):
    """The peers, the gateway's stub, a client of its HTTP door, and the credential of either."""
    peers = Peers(**how)
    async with AsyncExitStack() as stack:
        await peers.start()
        stack.push_async_callback(peers.stop)
        server, client, sign = await stack.enter_async_context(gateway_alone(tmp_path, **peers.addresses))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.listen))
        yield peers, gateway_pb2_grpc.GatewayServiceStub(channel), client, sign("member")


async def test_a_generator_that_dies_in_mid_stream_is_named_over_grpc(tmp_path):
    async with asking(tmp_path) as (peers, stub, _, token):
        call = stub.Ask(
            gateway_pb2.AskRequest(question="Do dogs pay?", collections=["ferry"]), metadata=bearer(token), timeout=60
        )
        kinds = [(await anext(aiter(call))).WhichOneof("part")]
        await peers.generator.said.wait()
        await peers.kill("generator")
        killed = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as broken:
            kinds += [event.WhichOneof("part") async for event in call]
        assert time.monotonic() - killed < SECOND
        failure = from_rpc_error(broken.value)
        assert (failure.reason, failure.variables["service"]) == ("PEER_UNAVAILABLE", "generator")
        assert failure.retry_after_seconds
        assert kinds[0] == "sources"


async def test_over_http_the_stream_ends_in_an_error_of_openais_shape(tmp_path):
    async with asking(tmp_path) as (peers, _, client, token):
        headers = {"authorization": f"Bearer {token}"}
        async with client.stream("POST", "/v1/chat/completions", json=BODY, headers=headers) as answer:
            assert answer.status_code == 200
            lines = answer.aiter_lines()
            first = json.loads((await anext(lines)).removeprefix("data: "))
            assert first["trivium"]["sources"][0]["document"] == "d.md"
            await peers.generator.said.wait()
            await peers.kill("generator")
            killed = time.monotonic()
            rest = [line async for line in lines if line]
        assert time.monotonic() - killed < SECOND
        error = json.loads(rest[-1].removeprefix("data: "))["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["code"], error["type"]) == ("peer_unavailable", "server_error")


async def test_a_retriever_that_dies_in_its_search_is_named_within_a_second(tmp_path):
    async with asking(tmp_path, silent=True) as (peers, _, client, token):
        headers = {"authorization": f"Bearer {token}"}
        asked = asyncio.create_task(client.post("/v1/chat/completions", json=BODY, headers=headers))
        await peers.retriever.asked.wait()
        await peers.kill("retriever")
        killed = time.monotonic()
        answer = await asked
        assert time.monotonic() - killed < SECOND
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "peer_unavailable"
        assert "retriever" in answer.json()["error"]["message"]


async def test_an_embedder_that_dies_while_sentences_are_checked_costs_their_vectors_and_that_is_told(tmp_path):
    async with asking(tmp_path, ends=True) as (peers, stub, _, token):
        call = stub.Ask(
            gateway_pb2.AskRequest(question="Do dogs pay?", collections=["ferry"]), metadata=bearer(token), timeout=60
        )
        events = asyncio.create_task(_all(call))
        await peers.embedder.asked.wait()
        await peers.kill("embedder")
        killed = time.monotonic()
        final = (await events)[-1].final
        # The receipt waits for access, which is not there, as long as it may.
        assert time.monotonic() - killed < SECOND + 2.5
        (fallback,) = final.fallbacks
        assert (fallback.stage, fallback.instead) == ("verify", "the words of each sentence alone")
        assert final.sentences[0].judge == gateway_pb2.SUPPORT_JUDGE_WORDS


async def _all(call):
    return [event async for event in call]
