"""What a replay asks of the generator and the retriever, over a real wire."""

from contextlib import asynccontextmanager

import grpc
import pytest
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from gateway.generation import Message, SourceSpan, Speaker, TokenIds, Tool, ToolUse
from gateway.generator import GenerationRequest
from gateway.peers.generator import RemoteGenerator
from gateway.peers.source_texts import RemoteSourceTexts
from gateway.replaying.nouns import Reread
from services.chassis.errors import Failure, Reason
from services.chassis.status import DETAILS_KEY, to_status

SPAN = SourceSpan("ferry", "fares.md", "v" * 64, 2, 9, "k", 1)
TURNS = (Message(Speaker.USER, "Where to?"),)


class Generator(generator_pb2_grpc.GeneratorServiceServicer):
    """Remembers what it was asked."""

    def __init__(self):
        self.asked = []

    async def Tokenize(self, request, context):
        self.asked.append(request)
        return generator_pb2.TokenizeResponse(token_ids=[3, 1, 2])

    async def Generate(self, request, context):
        self.asked.append(request)
        yield generator_pb2.GenerateResponse(final=generator_pb2.Final())


class Retriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Has one document, unless it fails."""

    def __init__(self):
        self.asked = []
        self.fails = None

    async def GetDocument(self, request, context):
        self.asked.append(request)
        return retriever_pb2.GetDocumentResponse(document=retriever_pb2.Document(title="Fares"))

    async def GetCollection(self, request, context):
        if self.fails is not None:
            await refuse(context, self.fails)
        shown = retriever_pb2.Collection(version="e1", expired=request.collection == "expired")
        return retriever_pb2.GetCollectionResponse(collection=shown)

    async def GetDocumentText(self, request, context):
        self.asked.append(request)
        if self.fails is not None:
            await refuse(context, self.fails)
        return retriever_pb2.GetDocumentTextResponse(text="9 crown")


async def refuse(context, failure):
    status = to_status(failure, correlation_id="id")
    details = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(grpc.StatusCode.NOT_FOUND, status.message, details)


@asynccontextmanager
async def opened(add, servicer):
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


async def test_a_prompt_is_counted_out_as_it_would_be_asked_and_gone_on_with_by_its_tokens():
    generator = Generator()
    tools = ToolUse((Tool("sail"),))
    async with opened(generator_pb2_grpc.add_GeneratorServiceServicer_to_server, generator) as channel:
        ours = RemoteGenerator(channel)
        assert await ours.token_ids(TURNS, tools, "b", "v") == (3, 1, 2)
        await ours.token_ids(TURNS, None, "b", "v")
        await ours.token_ids("Once", None, "b", "")
        _ = [part async for part in ours.generate(GenerationRequest(TokenIds((3, 1, 2, 7)), "r"))]
    with_tools, without, text, went_on = generator.asked
    assert (with_tools.base, with_tools.version) == ("b", "v")
    assert [tool.name for tool in with_tools.conversation.tool_use.tools] == ["sail"]
    assert [turn.content for turn in without.conversation.messages] == ["Where to?"]
    assert not without.conversation.HasField("tool_use")
    assert text.text == "Once"
    assert list(went_on.token_ids.ids) == [3, 1, 2, 7]


async def test_a_source_is_read_at_its_version_for_its_readers():
    retriever = Retriever()
    async with opened(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, retriever) as channel:
        assert await RemoteSourceTexts(channel).read(SPAN, ["anna"]) == Reread(SPAN, "Fares", "9 crown")
    named, text = sorted(retriever.asked, key=lambda request: request.DESCRIPTOR.name)
    assert (named.document, list(named.as_readers)) == ("fares.md", ["anna"])
    assert (text.version, text.start, text.end, list(text.as_readers)) == ("v" * 64, 2, 9, ["anna"])


@pytest.mark.parametrize("reason", [Reason.DOCUMENT_VERSION_NOT_FOUND, Reason.DOCUMENT_NOT_FOUND])
async def test_a_source_that_is_gone_has_no_text(reason):
    retriever = Retriever()
    retriever.fails = Failure(reason, name="fares.md")
    async with opened(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, retriever) as channel:
        assert await RemoteSourceTexts(channel).read(SPAN, []) == Reread(SPAN)


async def test_a_collection_has_a_version_unless_it_is_gone_or_has_expired():
    retriever = Retriever()
    async with opened(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, retriever) as channel:
        ours = RemoteSourceTexts(channel)
        assert (await ours.version("ferry"), await ours.version("expired")) == ("e1", "")
        retriever.fails = Failure(Reason.COLLECTION_NOT_FOUND, name="ferry", nearest="")
        assert await ours.version("ferry") == ""
        retriever.fails = Failure(Reason.QUESTION_EMPTY, field="question")
        with pytest.raises(Failure):
            await ours.version("ferry")


async def test_a_retriever_that_fails_otherwise_is_no_source_that_is_gone():
    retriever = Retriever()
    retriever.fails = Failure(Reason.QUESTION_EMPTY, field="question")
    async with opened(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, retriever) as channel:
        with pytest.raises(Failure) as caught:
            await RemoteSourceTexts(channel).read(SPAN, [])
    assert caught.value.reason is Reason.QUESTION_EMPTY
