"""A request is found again by its id where its tenant has it stored, as the core was asked it, and nowhere else."""

import json
import uuid
from dataclasses import replace

import pytest
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import batch_pb2, batch_pb2_grpc, file_pb2, file_pb2_grpc

from gateway.asking.question import Answer, Question, Release, Rewrite, Sources, Unsupported
from gateway.chat import Conversation
from gateway.generation import Message, Receipt, Speaker
from gateway.http import lines
from gateway.peers.batch_lines import RemoteLines
from gateway.replaying.keeping import Keeping, requests_of
from gateway.replaying.nouns import Line, Named, Verdict
from gateway.responses.grounds import Manner
from gateway.responses.nouns import Asked, Settings
from services.chassis import batch_lines
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from services.chassis.runtime import new_id
from tests.harness.wording import missing
from tests.unit.gateway.fine_tuning.test_peers import served
from tests.unit.gateway.replaying.known_weights import ASKING, receipt, replayed
from tests.unit.gateway.replaying.test_peers import refuse
from tests.unit.gateway.test_response_functions import FIRST, WEATHER, Chat, more
from tests.unit.gateway.test_responses import SEARCHED, Core, Shelf, responder, said

ID = "5b1c6f0e-3b1d-4f0e-9d52-0f7d1c1f6a11"
ANSWERED_AT = 1_796_000_000.0
TURNS = [{"role": "user", "content": "Where to?"}]


class Lines:
    """One line, under one id."""

    def __init__(self, line=None):
        self.kept = line

    async def line(self, request_id, answered_at):
        assert (request_id, answered_at) == (ID, ANSWERED_AT)
        return self.kept


async def asked(core, shelf, *words, request_id=ID, **settings):
    """Have a response stored; its id."""
    wanted = Asked(Settings(**settings), tuple(map(said, words)), request_id)
    *_, last = [event async for event in responder(core, shelf).create(wanted)]
    return last.event.response.response


async def found(shelf, line=None, named=None):
    keeping = Keeping(shelf, Lines(line), lines.read)
    return await keeping.found(named or Named(ID), Receipt(ID, complete_time_seconds=ANSWERED_AT))


def test_a_name_that_was_made_of_a_requests_id_leads_back_to_it():
    plain = ID.replace("-", "")
    assert [requests_of(name) for name in (ID, ID.upper(), f"batch_req_{plain}")] == [(ID,), (ID.upper(),), (ID,)]
    assert requests_of(f"resp_{plain}") == (ID, ID.upper())
    # As a chat's or a completion's answer has it; a caller may have called a request so himself.
    assert requests_of(f"chatcmpl-{ID}") == (ID, f"chatcmpl-{ID}")
    assert requests_of("cmpl-mine") == ("mine", "cmpl-mine")
    for name in ("resp_1", f"{ID}~rewrite", f"resp_{plain}0", plain):
        assert requests_of(name) == (name,)


@pytest.mark.parametrize("written", [ID, ID.upper()], ids=["small", "capitals"])
async def test_a_response_is_replayed_by_its_own_name_however_its_requests_id_was_written(written):
    shelf = Shelf()
    name = await asked(Core("The ferry sails."), shelf, "How much?", request_id=written)
    for named in (name, written):
        replay, _ = await replayed(kept=receipt(request_id=written), named=Named(named))
        assert (replay.verdict, replay.receipt.request_id) == (Verdict.EXACT, written)
    recalled = await found(shelf, named=Named(written))
    assert (recalled.request_id, recalled.asked.wish.request_id) == (written, written)


async def test_a_name_without_a_receipt_is_refused_by_that_name():
    name = f"resp_{ID.replace('-', '')}"
    with pytest.raises(Failure) as refused:
        await replayed(named=Named(name))
    assert (refused.value.reason, missing(refused.value.sentence, name)) == (Reason.RECEIPT_NOT_FOUND, [])


async def test_a_stored_response_is_asked_again_as_it_was_after_what_it_went_on_from():
    core, shelf = Core("It is ", "9 [1]."), Shelf()
    first = await asked(core, shelf, "Of tickets:", request_id=str(uuid.uuid4()), instructions="Be short.")
    await asked(core, shelf, "How much?", "And dogs?", previous=first, search=SEARCHED, instructions="Be brief.")
    recalled = await found(shelf)
    assert recalled.asked == core.asked[1]
    assert [turn.content for turn in recalled.asked.history] == ["Of tickets:", "It is 9 [1].", "How much?"]
    assert (recalled.request_id, recalled.answer, recalled.rewritten) == (ID, "It is 9 [1].", "And dogs?")
    # What the caller brings of it counts.
    brought = await found(shelf, named=Named(ID, "It is 7.", "And cats?"))
    assert (brought.answer, brought.rewritten) == ("It is 7.", "And cats?")


async def test_the_question_that_was_looked_for_is_kept_with_a_response():
    class Rewriting(Core):
        async def ask(self, question):
            async for event in super().ask(question):
                rewrite = Rewrite("What do dogs pay?", rewritten=True, reason="it refers to earlier turns")
                yield replace(event, rewrite=rewrite) if isinstance(event, Sources) else event

    shelf = Shelf()
    await asked(Rewriting("Nothing."), shelf, "And they?", search=SEARCHED)
    assert (await found(shelf)).rewritten == "What do dogs pay?"


async def test_of_calls_of_functions_no_text_is_known_and_the_functions_are_there_again():
    core, shelf = Chat(FIRST, more('{"city": "Zug"}')), Shelf()
    await asked(core, shelf, "How is the weather?", functions=WEATHER)
    recalled = await found(shelf)
    assert (recalled.asked, recalled.answer) == (core.conversations[0], None)
    assert recalled.asked.wish.tools == WEATHER


async def test_of_an_answer_whose_unsupported_sentences_were_withheld_no_text_is_known():
    shelf, manner = Shelf(), Manner(unsupported=Unsupported.WITHHOLD, release=Release.SENTENCE)
    await asked(Core("Nine crowns."), shelf, "How much?", search=SEARCHED, manner=manner)
    recalled = await found(shelf)
    assert (recalled.asked.unsupported, recalled.answer) == (Unsupported.WITHHOLD, None)


async def test_of_a_response_that_failed_no_text_is_known_and_its_tokens_decide():
    class Failing(Core):
        async def ask(self, question):
            async for event in super().ask(question):
                if isinstance(event, Answer):
                    # As where the embedder is away in the check of an answer that wants no fallback.
                    raise Failure(Reason.PEER_UNAVAILABLE, service="embedder")
                yield event

    shelf, words = Shelf(), ("The", " ferry", " sails")
    with pytest.raises(Failure):
        await asked(Failing(*words), shelf, "How much?", search=SEARCHED)
    recalled = await found(shelf)
    assert (recalled.answer, recalled.rewritten) == (None, "How much?")
    # What the caller heard of it is compared all the same.
    assert (await found(shelf, named=Named(ID, "The ferry"))).answer == "The ferry"
    kept = receipt()
    replay, _ = await replayed(kept=kept, named=Named(kept.request_id, recalled.answer))
    assert replay.verdict is Verdict.EXACT


async def test_what_was_deleted_is_kept_no_more():
    core, shelf = Core("Yes."), Shelf()
    first = await asked(core, shelf, "One?", request_id=str(uuid.uuid4()))
    second = await asked(core, shelf, "Two?", previous=first)
    await found(shelf)
    for gone in (first, second):
        del shelf.kept[gone]
        with pytest.raises(Failure) as refused:
            await found(shelf)
        assert (refused.value.reason, refused.value.field) == (Reason.REQUEST_NOT_KEPT, "request")
        assert f"trivium replay {ID} --request FILE" in refused.value.sentence


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": TURNS}),
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/chat/completions", {"messages": TURNS, "trivium": {"collection": "ferry"}}),
        ("/v1/responses", {"input": "Where to?", "store": False}),
    ],
    ids=["chat", "completion", "question", "response"],
)
async def test_a_line_of_a_batch_asks_what_its_route_would(path, body):
    recalled = await found(Shelf(), Line(path, json.dumps({"model": "base", **body}).encode()))
    asks = recalled.asked
    if isinstance(asks, Conversation):
        assert asks.prompt in ("Once", (Message(Speaker.USER, "Where to?"),))
    else:
        assert isinstance(asks, Question)
        assert (asks.text, asks.scope.collections) == ("Where to?", ("ferry",) if "trivium" in body else ())
    assert (recalled.answer, asks.wish.model) == (None, "base")


async def test_a_line_that_no_model_answers_and_no_line_at_all_are_not_kept():
    for line in (None, Line("/v1/embeddings", b'{"input": "x"}')):
        with pytest.raises(Failure) as refused:
            await found(Shelf(), line)
        assert refused.value.reason is Reason.REQUEST_NOT_KEPT


class Batches(batch_pb2_grpc.BatchServiceServicer):
    """Three batches, two a page: one that had ended, one that runs, one that began later."""

    def __init__(self):
        self.listed = 0

    async def ListBatches(self, request, context):
        self.listed += 1
        times = (("c", 100, 0), ("b", -100, 0), ("a", -1000, -900))
        batches = [batch_pb2.Batch(batch=name, input_file=f"file-{name}") for name, _, _ in times]
        for batch, (_, created, ended) in zip(batches, times, strict=True):
            batch.create_time.FromSeconds(int(ANSWERED_AT) + created)
            if ended:
                batch.end_time.FromSeconds(int(ANSWERED_AT) + ended)
        rest = batches[2:] if request.after == "b" else batches[:2]
        return batch_pb2.ListBatchesResponse(batches=rest, has_more=len(rest) == 2)


class Files(file_pb2_grpc.FileServiceServicer):
    """The input of the batch that runs, in pieces that no line ends with."""

    def __init__(self):
        self.read = []
        self.fails = None

    async def ReadFile(self, request, context):
        self.read.append(request.file)
        if self.fails is not None:
            await refuse(context, self.fails)
        asked = [{"custom_id": str(at), "url": "/v1/completions", "body": {"prompt": f"p{at}"}} for at in range(3)]
        text = "\n\n".join(map(json.dumps, asked))
        for start in range(0, len(text), 7):
            yield file_pb2.ReadFileResponse(chunk=transfer_pb2.Chunk(data=text[start : start + 7].encode()))


async def looked(files, request_id, batches=None):
    def add(servicers, server):
        batch_pb2_grpc.add_BatchServiceServicer_to_server(servicers[0], server)
        file_pb2_grpc.add_FileServiceServicer_to_server(servicers[1], server)

    async with served(add, (batches or Batches(), files)) as channel:
        with serving(ASKING):
            return await RemoteLines(channel).line(request_id, ANSWERED_AT)


async def test_a_line_is_found_by_its_id_in_the_batch_that_ran_then_and_no_other_is_read():
    files = Files()
    # Lines without anything count too.
    assert await looked(files, batch_lines.request_id("ada", "b", 5)) == Line("/v1/completions", b'{"prompt": "p2"}')
    assert files.read == ["file-b"]
    for nobodys in (batch_lines.request_id("ada", "b", 2), batch_lines.request_id("bob", "b", 1)):
        assert await looked(files, nobodys) is None


@pytest.mark.parametrize("made", [lambda: ID, lambda: str(uuid.uuid4()), new_id, lambda: "no-id"])
async def test_for_what_was_no_line_no_batch_is_asked(made):
    request_id = made()
    files, batches = Files(), Batches()
    assert await looked(files, request_id, batches) is None
    assert (batches.listed, files.read) == (0, [])


@pytest.mark.parametrize("reason", [Reason.FILE_NOT_FOUND, Reason.ROLE_MISSING, Reason.QUESTION_EMPTY])
async def test_a_file_that_is_gone_or_is_nothing_for_the_caller_is_not_read(reason):
    files = Files()
    files.fails = Failure(reason, name="file-b", role="x", required="x", field="file")
    found_then = looked(files, batch_lines.request_id("ada", "b", 1))
    if reason is Reason.QUESTION_EMPTY:
        with pytest.raises(Failure):
            await found_then
    else:
        assert await found_then is None
