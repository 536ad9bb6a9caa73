"""A content policy between a caller and a model: what a model hears, what leaves, and what is recorded of the rest."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from gateway.answering import Answerer, Wish
from gateway.chat import Chatter, Conversation
from gateway.generation import (
    FinishReason,
    Generated,
    Message,
    Opening,
    Prompts,
    Receipt,
    Several,
    Speaker,
    TextDelta,
    TokenIds,
    ToolCallDelta,
    Usage,
)
from gateway.policy import in_force
from gateway.policy.nouns import (
    Allow,
    AnswerCheck,
    ContentPolicy,
    Part,
    Prompt,
    Refuse,
    Replace,
    UnjudgedError,
    Verdict,
)
from gateway.policy.policing import Policing
from gateway.receipts import Waiting
from gateway.routing import ModelKind, Route
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from tests.harness.clock import ManualClock
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.asking.stock import asking, world
from tests.unit.gateway.text_deltas import words
from tests.unit.gateway.tracing import untraced

ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Chat")
ROUTE = Route("base", "base", ModelKind.BASE, "")
USED = Usage(prompt_tokens=5, completion_tokens=9)


def policy(**named: Any) -> ContentPolicy:
    return ContentPolicy("judge:1", 1.0, **named)


class Judge:
    """Says what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[Prompt] = []
        self.parts: list[Part] = []
        self.of_prompt: Verdict = Allow()
        self.of_part: Callable[[Part], Verdict] = lambda _: Allow()
        self.stuck = asyncio.Event()

    async def prompt(self, policy: ContentPolicy, prompt: Prompt) -> Verdict:
        self.prompts.append(prompt)
        return self.of_prompt

    async def part(self, policy: ContentPolicy, part: Part) -> Verdict:
        self.parts.append(part)
        return self.of_part(part)


class Model:
    """Says its pieces."""

    def __init__(self, *pieces: TextDelta) -> None:
        self.pieces = pieces
        self.heard: list[Sequence[Message] | str] = []

    async def generate(self, request: Any) -> AsyncGenerator[Opening | TextDelta | Generated]:
        self.heard.append(request.prompt)
        yield Opening(Receipt("", usage=Usage(prompt_tokens=5)))
        for piece in self.pieces:
            yield piece
        yield Generated(FinishReason.STOP, USED, (), Receipt("", usage=USED))


class Records:
    """Keeps what was used, by how it ended."""

    def __init__(self) -> None:
        self.ended: list[Usage] = []
        self.cancelled: list[Usage] = []

    async def record(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.ended.append(receipt.usage)

    def record_cancelled(self, tenant: str, principal: str, method: str, receipt: Receipt, project: str = "") -> None:
        self.cancelled.append(receipt.usage)

    def enter(self, waiting: Waiting) -> None:
        self.ended.append(waiting.receipt.usage)


class Base:
    """Every name is the base."""

    async def resolve(self, *_: object) -> Route:
        return ROUTE


class Desk:
    """A chat under a policy."""

    def __init__(self, *pieces: TextDelta) -> None:
        self.judge, self.model, self.records = Judge(), Model(*pieces), Records()
        model: Any = self.model
        records: Any = self.records
        base: Any = Base()
        answerer = Answerer(model, records, None, Policing(self.judge, logger("test")))
        self.chatter = Chatter(base, answerer, lambda: 0.0, lambda: "r1", untraced)

    async def said(
        self, wanted: ContentPolicy | None, prompt: Prompts = "Hello"
    ) -> tuple[list[TextDelta], Generated | Reason]:
        """What left, and its end or why there is none."""
        left: list[TextDelta] = []
        with serving(ASKING):
            in_force.begin(wanted)
            try:
                async with aclosing(self.chatter.chat(Conversation(prompt, Wish()))) as parts:
                    async for part in parts:
                        if isinstance(part, Generated):
                            return left, part
                        left.append(part)
            except Failure as failure:
                return left, failure.reason
            finally:
                in_force.begin(None)
        raise AssertionError("an answer had no end")


async def test_each_of_several_prompts_is_judged_and_each_answer_by_its_number():
    desk = Desk(*words("Good."))
    left, end = await desk.said(policy(), Several(("One", "Two")))
    assert [prompt.messages[0].content for prompt in desk.judge.prompts] == ["One", "Two"]
    assert desk.model.heard == ["One", "Two"]
    assert sorted((piece.choice, piece.text) for piece in left) == [(0, "Good."), (1, "Good.")]
    assert sorted(part.choice for part in desk.judge.parts) == [0, 1]
    assert isinstance(end, Generated)
    desk.judge.of_prompt = Replace("Other", "")
    await desk.said(policy(), Several(("One", "Two")))
    assert desk.model.heard[2:] == ["Other", "Other"]


@pytest.mark.parametrize("prompt", [TokenIds((1,)), Several(("One", TokenIds((1,))))])
async def test_tokens_are_refused_where_prompts_are_judged_and_pass_where_only_answers_are(prompt: Prompts):
    desk = Desk(*words("Good."))
    assert await desk.said(policy(), prompt) == ([], Reason.FIELD_INVALID)
    assert desk.model.heard == []
    left, _ = await desk.said(policy(prompts=False), prompt)
    assert {piece.text for piece in left} == {"Good."}


async def test_a_sentence_leaves_when_it_was_judged_and_not_a_token_of_the_next_one():
    desk = Desk(*words("One is", " out. Tw", "o is", " in."))
    left, end = await desk.said(policy())
    assert [piece.text for piece in left] == ["One is out. ", "Two is in."]
    assert [part.text for part in desk.judge.parts] == ["One is out. ", "Two is in."]
    assert [part.before for part in desk.judge.parts] == ["", "One is out. "]
    assert [part.last for part in desk.judge.parts] == [False, True]
    # The token that ends one sentence and begins the other tells of both.
    assert [[item.token for item in piece.logprobs] for piece in left] == [["One is"], [" out. Tw", "o is", " in."]]
    assert isinstance(end, Generated)
    assert end.fallbacks == ()
    assert desk.records.ended == [USED]


async def test_a_replaced_sentence_takes_its_probabilities_with_it():
    desk = Desk(*words("My name is Ada. ", "Good day."))
    desk.judge.of_part = lambda part: Replace("My name is […]. ", "names") if "Ada" in part.text else Allow()
    left, end = await desk.said(policy())
    assert "".join(piece.text for piece in left) == "My name is […]. Good day."
    assert [len(piece.logprobs) for piece in left] == [0, 1]
    assert desk.judge.parts[1].before == "My name is […]. "
    assert isinstance(end, Generated)
    assert [(it.stage, it.reason) for it in end.fallbacks] == [("policy", "names")]


async def test_a_refusal_in_the_middle_ends_the_answer_and_what_it_used_is_charged():
    desk = Desk(*words("One is out. ", "Two is", " not. ", "Three."))
    desk.judge.of_part = lambda part: Refuse("no twos") if "Two" in part.text else Allow()
    left, end = await desk.said(policy())
    assert [piece.text for piece in left] == ["One is out. "]
    assert end is Reason.CONTENT_REFUSED
    assert (desk.records.ended, desk.records.cancelled) == ([], [Usage(prompt_tokens=5, completion_tokens=4)])


async def test_a_refusal_of_the_whole_is_recorded_as_what_it_was():
    desk = Desk(*words("One. ", "Two."))
    desk.judge.of_part = lambda _: Refuse("")
    left, end = await desk.said(policy(answers=AnswerCheck.WHOLE))
    assert (left, end) == ([], Reason.CONTENT_REFUSED)
    assert (desk.records.ended, desk.records.cancelled) == ([USED], [])
    assert [part.text for part in desk.judge.parts] == ["One. Two."]


async def test_whoever_leaves_while_the_whole_is_judged_is_charged_for_it():
    desk = Desk(*words("One."))
    judged = asyncio.Event()

    async def never(policy: ContentPolicy, part: Part) -> Verdict:
        judged.set()
        await asyncio.Event().wait()
        return Allow()

    desk.judge.part = never  # type: ignore[method-assign]  # one that never ends
    listening = asyncio.create_task(desk.said(policy(answers=AnswerCheck.WHOLE)))
    async with asyncio.timeout(HANG_SECONDS):
        await judged.wait()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert (desk.records.ended, desk.records.cancelled) == ([USED], [])


async def test_a_model_hears_the_prompt_that_took_the_place_of_the_last_turn_of_the_user():
    desk = Desk(*words("Yes."))
    desk.judge.of_prompt = Replace("How is […]?", "names")
    turns = [
        Message(Speaker.SYSTEM, "Be brief."),
        Message(Speaker.USER, "How is Ada?"),
        Message(Speaker.ASSISTANT, "Well."),
    ]
    await desk.said(policy(), turns)
    assert desk.judge.prompts[0].messages == tuple(turns)
    assert list(desk.model.heard[0]) == [turns[0], Message(Speaker.USER, "How is […]?"), turns[2]]
    await desk.said(policy(), "Ada is")
    assert desk.model.heard[1] == "How is […]?"


async def test_a_refused_prompt_is_heard_by_no_model():
    desk = Desk(*words("Yes."))
    desk.judge.of_prompt = Refuse("no")
    assert await desk.said(policy()) == ([], Reason.CONTENT_REFUSED)
    assert not desk.model.heard


@pytest.mark.parametrize("fail_open", [True, False])
async def test_without_a_verdict_the_policy_says_what_becomes_of_a_sentence(fail_open):
    desk = Desk(*words("One is out. ", "Two is in. ", "Three."))

    def unjudged(part: Part) -> Verdict:
        if "One" in part.text:
            return Allow()
        raise UnjudgedError("it is away")

    desk.judge.of_part = unjudged
    left, end = await desk.said(policy(fail_open=fail_open))
    if fail_open:
        assert "".join(piece.text for piece in left) == "One is out. Two is in. Three."
        assert isinstance(end, Generated)
        # Told once, however many sentences it were.
        assert [it.reason for it in end.fallbacks] == ["it is away"]
    else:
        assert ([piece.text for piece in left], end) == (["One is out. "], Reason.POLICY_UNAVAILABLE)


async def test_calls_of_tools_wait_for_the_end_and_are_judged_whole():
    calls = (ToolCallDelta(0, "c1", "pay"), ToolCallDelta(0, arguments='{"to": '), ToolCallDelta(0, arguments='"Ada"}'))
    desk = Desk(*words("I pay. "), *(TextDelta("", tokens=1, calls=(call,)) for call in calls))
    desk.judge.of_part = lambda part: Refuse("no payments") if part.calls else Allow()
    left, end = await desk.said(policy())
    assert ([piece.calls for piece in left], end) == ([], Reason.CONTENT_REFUSED)
    assert desk.judge.parts[-1].calls[0].arguments == '{"to": "Ada"}'
    desk.judge.of_part = lambda _: Allow()
    left, _ = await desk.said(policy())
    assert left[-1].calls == calls


async def test_several_answers_to_one_prompt_are_judged_each_by_itself():
    desk = Desk(TextDelta("One is", choice=0), TextDelta("Two is", choice=1), TextDelta(" out.", choice=0))
    left, _ = await desk.said(policy())
    assert [(piece.choice, piece.text) for piece in left] == [(0, "One is out."), (1, "Two is")]
    assert [(part.choice, part.text) for part in desk.judge.parts] == [(0, "One is out."), (1, "Two is")]


async def test_without_a_policy_pieces_leave_as_they_come():
    pieces = words("One", " is", " out.")
    desk = Desk(*pieces)
    left, _ = await desk.said(None)
    assert left == list(pieces)
    assert not desk.judge.prompts
    assert not desk.judge.parts


async def test_a_question_is_looked_for_and_cited_as_it_was_let_through(tmp_path):
    judge = Judge()
    judge.of_prompt = Replace("How much is a day ticket?", "names")
    judge.of_part = lambda part: Replace(part.text.replace("nine", "ten"), "")
    here = world(tmp_path, "A day ticket is nine euros [1].", policing=Policing(judge, logger("test")))
    with serving(ASKING):
        in_force.begin(policy())
        events = [event async for event in here.asker.ask(asking("How much is Ada's ticket?"))]
        in_force.begin(None)
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert "ten euros" in text
    last: Any = events[-1]
    (citation,) = last.citations
    assert text[citation.answer_start : citation.answer_end] == "[1]"
    assert [it.instead for it in last.fallbacks] == ["another prompt", "another text in the answer"]
    assert "How much is a day ticket?" in here.generator.requests[-1].prompt[-1].content
    assert "Ada" not in str(here.generator.requests)


async def test_what_verdicts_take_is_told_with_the_stages_of_an_answer(tmp_path):
    clock, judge = ManualClock(), Judge()
    ask = judge.prompt

    async def slowly(policy: ContentPolicy, prompt: Prompt) -> Verdict:
        clock.advance(2.0)
        return await ask(policy, prompt)

    def part(part: Part) -> Verdict:
        clock.advance(0.5)
        return Allow()

    judge.prompt, judge.of_part = slowly, part  # type: ignore[method-assign]  # it takes its time
    pieces = ("Dogs travel free. ", "Fog slows boats. ", "So it is.")
    here = world(tmp_path, *pieces, clock=clock, policing=Policing(judge, logger("test")))
    with serving(ASKING):
        in_force.begin(policy())
        events = [event async for event in here.asker.ask(asking("Do dogs pay?", explain=True))]
        in_force.begin(None)
    last: Any = events[-1]
    told = {it.stage: it for it in last.stages}
    prompt = told["policy_prompt"]
    assert (prompt.seconds, prompt.input_size, prompt.budget_seconds) == (2.0, len("Do dogs pay?"), 1.0)
    assert prompt.decision
    answer = told["policy_answer"]
    assert (answer.seconds, answer.input_size) == (0.5 * len(judge.parts), sum(len(it.text) for it in judge.parts))
    assert len(judge.parts) > 1
    timed = {it.stage: it.seconds for it in last.end.timings}
    assert (timed["policy_prompt"], timed["policy_answer"]) == (2.0, answer.seconds)
    assert (here.spans[0], here.spans.count("policy_answer")) == ("policy_prompt", 1)


async def test_a_prompt_that_is_refused_is_a_stage_in_the_trace(tmp_path):
    judge = Judge()
    judge.of_prompt = Refuse("no")
    here = world(tmp_path, policing=Policing(judge, logger("test")))
    with serving(ASKING):
        in_force.begin(policy())
        with pytest.raises(Failure):
            await anext(here.asker.ask(asking()))
        in_force.begin(None)
    assert here.spans == ["policy_prompt"]


async def test_without_prompts_to_judge_there_is_no_stage_of_it_and_a_chat_tells_what_its_answer_took(tmp_path):
    desk = Desk(TextDelta("One. "), TextDelta("Two."))
    _, end = await desk.said(policy(prompts=False))
    assert isinstance(end, Generated)
    assert [it.stage for it in end.timings] == ["resolve", "policy_answer"]
    assert [it.input_size for it in end.timings] == [0, len("One. Two.")]
    _, end = await desk.said(None)
    assert isinstance(end, Generated)
    assert [it.stage for it in end.timings] == ["resolve"]
