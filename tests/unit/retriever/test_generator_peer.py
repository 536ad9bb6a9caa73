"""The generator as the retriever asks it: a real server of its stub, whose answers the test chooses."""

import asyncio
import time

import grpc
import pytest
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.generator.v1 import generator_pb2 as pb
from trivium.generator.v1 import generator_pb2_grpc

from services.chassis.context import Bearer, RequestContext, serving
from services.chassis.errors import Failure, Reason
from services.retriever.generation import NoGenerator, Speaker, Turn, Writer, Written
from services.retriever.peers_generator import RemoteGenerator

TURNS = [Turn(Speaker.SYSTEM, "Be short."), Turn(Speaker.USER, "Which question?")]


class Engines(generator_pb2_grpc.GeneratorServiceServicer):
    def __init__(self, engines=(), parts=()):
        self.engines, self.parts, self.asked = engines, parts, []

    async def ListEngines(self, request, context):
        return pb.ListEnginesResponse(engines=self.engines)

    async def Tokenize(self, request, context):
        return pb.TokenizeResponse(token_ids=range(len(request.conversation.messages)), context_tokens=64)

    async def Generate(self, request, context):
        self.asked.append(request)
        for part in self.parts:
            yield part


@pytest.fixture
async def ask():
    servers, channels = [], []

    async def serve(servicer):
        server = grpc.aio.server()
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        return RemoteGenerator(channels[-1])

    yield serve
    for channel in channels:
        await channel.close()
    for server in servers:
        await server.stop(None)


def ended(finish):
    return pb.GenerateResponse(
        final=pb.Final(finish_reason=finish, receipt=receipt_pb2.Receipt(base_digest="sha256:ab"))
    )


def said(text):
    return pb.GenerateResponse(delta=pb.Delta(text=text))


async def test_a_text_comes_whole_with_the_weights_that_wrote_it_and_is_asked_for_greedily(ask):
    opening = pb.GenerateResponse(opening=pb.Opening())
    engines = Engines(parts=[opening, said("Who "), said("pays?"), ended(chat_pb2.FINISH_REASON_STOP)])
    generator = await ask(engines)
    assert await generator.complete(TURNS, 32, seed=7) == Written("Who pays?", "sha256:ab", True)
    (request,) = engines.asked
    assert (request.sampling.temperature, request.sampling.seed, request.sampling.max_tokens) == (0.0, 7, 32)
    assert [it.content for it in request.conversation.messages] == ["Be short.", "Which question?"]
    assert await generator.tokens(TURNS) == 2


async def test_a_text_that_was_cut_at_its_limit_says_so(ask):
    generator = await ask(Engines(parts=[said("Who"), ended(chat_pb2.FINISH_REASON_LENGTH)]))
    assert not (await generator.complete(TURNS, 1)).complete


async def test_a_text_without_its_end_is_no_text(ask):
    generator = await ask(Engines(parts=[said("Who ")]))
    with pytest.raises(Failure) as caught:
        await generator.complete(TURNS, 8)
    assert caught.value.reason is Reason.PEER_UNAVAILABLE
    assert caught.value.variables["service"] == "generator"


async def test_the_writer_is_the_deployments_default_and_no_full_model_of_a_tenant(ask):
    full = pb.Engine(engine="0", model="mine", base_digest="sha256:cd", context_tokens=1)
    default = pb.Engine(engine="1", base_digest="sha256:ab", context_tokens=2048)
    generator = await ask(Engines(engines=[full, default, pb.Engine(engine="2", base_digest="sha256:ef")]))
    assert await generator.writer() == Writer("sha256:ab", 2048)


async def test_a_generator_that_is_away_names_itself(ask):
    generator = await ask(Engines())
    with pytest.raises(Failure) as caught:
        await generator.writer()
    assert "generator" in caught.value.sentence


async def test_without_a_generator_what_needs_one_says_what_to_set():
    with pytest.raises(Failure) as caught:
        await NoGenerator().complete(TURNS, 8)
    assert "TRIVIUM_RETRIEVER_GENERATION=true" in caught.value.sentence


async def test_a_deadline_of_our_own_caller_that_ends_the_call_is_named_and_is_no_fault_of_ours(ask):
    class Slow(Engines):
        async def Generate(self, request, context):
            await asyncio.Event().wait()
            yield said("never")

    generator = await ask(Slow())
    asking = RequestContext(
        "ada", "ada-key", frozenset(), Bearer(""), "c", time.monotonic() + 0.3, "/trivium.retriever.v1/Summarize"
    )
    failing = pytest.raises(Failure)
    with serving(asking), failing as caught:
        stub = generator._stub.Generate
        generator._stub.Generate = lambda request: stub(request, timeout=0.2)
        await generator.complete(TURNS, 8)
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
