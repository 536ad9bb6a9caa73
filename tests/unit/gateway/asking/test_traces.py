"""What a trace keeps of an answer's stages: time, input size and decision of each, and no word of anybody's."""

from dataclasses import replace

import pytest

from gateway.asking import wire
from gateway.asking.question import Path
from gateway.asking.retrieval import Policy
from gateway.generation import Message, Speaker, StageTiming
from tests.unit.gateway.asking.stock import World, asking, heard, world
from tests.unit.gateway.tracing import Trace


@pytest.fixture
def place(tmp_path, trace: Trace) -> World:
    return world(tmp_path, "A ticket is 9 crowns [1].", traced=trace.telemetry.stage_span)


async def test_every_stage_of_an_answer_is_in_its_trace_as_the_answer_tells_it(place, trace):
    place.retriever.found = replace(place.retriever.found, timings=(StageTiming("embed", 0.25, 1),))
    place.generator.timings = (StageTiming("prefill", 0.5, 7), StageTiming("generate", 2.0, 3))
    told = (await heard(place, asking(explain=True))).last.stages
    names = ["resolve", "embed", "retrieve", "decide", "prompt", "prefill", "generate", "verify"]
    assert sorted(it.stage for it in told) == sorted(names)
    for stage in told:
        assert trace.of(stage.stage) == (stage.input_size, stage.decision), stage
    assert trace.of("retrieve") == (2, "2 passages")
    assert trace.of("decide") == (2, "answered: 0.90 of 0.50, policy hedge")
    assert trace.of("verify") == (1, "1 citations")
    for peers, seconds in (("embed", 0.25), ("prefill", 0.5), ("generate", 2.0)):
        assert seconds <= trace.seconds(peers) < seconds + 0.2


async def test_a_trace_is_the_same_where_no_stages_are_asked_for(place, trace):
    place.generator.timings = (StageTiming("generate", 2.0, 3),)
    await heard(place, asking())
    assert {it.name for it in trace.spans} == {"resolve", "retrieve", "decide", "prompt", "generate", "verify"}


@pytest.mark.parametrize(
    ("path", "stage", "size", "decision", "words"),
    [
        (Path.SUMMARY, "summarize", 1, "the summary of ferry", ", of Zanzibar"),
        (Path.INDEX, "count", 5, "the index of ferry", ", for Zanzibar"),
    ],
)
async def test_what_a_summary_or_a_count_is_of_is_told_its_caller_and_no_trace(
    place, trace, path, stage, size, decision, words
):
    answer = await heard(place, asking("Zanzibar", path=path, explain=True))
    (told,) = [it for it in wire.response(answer.last).final.stages if it.stage == stage]
    assert (told.input_size, told.decision) == (size, decision + words)
    assert trace.of(stage) == (size, decision)


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "What does Zanzibar cost?"},
        {"text": "Summarise all documents about Zanzibar."},
        {"text": "How many documents mention Zanzibar?"},
        {"text": "And what does it cost?", "history": (Message(Speaker.USER, "Does Zanzibar have ferries?"),)},
        {"text": "What of Zanzibar?", "abstention": Policy.STRICT, "instructions": "Zanzibar!"},
    ],
    ids=["passages", "summary", "index", "rewritten", "abstained"],
)
async def test_no_word_of_the_caller_or_of_a_document_is_in_a_trace(place, trace, asked):
    place.generator.aside = "What does Zanzibar cost?"
    place.generator.pieces = ("Zanzibar costs 9 crowns [1].",)
    await heard(place, asking(**asked))
    assert len(trace.spans) > 1
    assert not trace.says("zanzibar", "crowns", "dogs")
