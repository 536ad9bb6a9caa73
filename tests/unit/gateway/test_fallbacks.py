"""Another model answers where the one that is named cannot, as declared, and the answer says so."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from gateway.answering import Answerer, Wish
from gateway.generation import Generated, Opening, Receipt, TextDelta, Usage
from gateway.routing import ModelKind, Route, Router
from gateway.stages import Stopwatch
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.asking.stock import Records

ASKING = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Chat")
BROKEN, SOUND = "sha256:" + "b" * 64, "sha256:" + "c" * 64
REFUSED = Failure(Reason.WEIGHTS_REFUSED, field="version", problem="a tensor is missing")


class Names:
    """A registry of two models: one whose version no engine takes, and one that is sound."""

    def __init__(self, unserved: str = "", **fallbacks: str) -> None:
        self.fallbacks = fallbacks
        self.unserved = set(unserved.split())
        self.asked: list[str] = []

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        self.asked.append(name)
        falls = self.fallbacks.get(name, "")
        if name in self.unserved:
            raise Failure(Reason.ALIAS_NOT_SERVING, name=name, why="no target is ready", fallback=falls)
        version = {"broken": BROKEN, "sound": SOUND}.get(name)
        if version is None:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name, nearest="sound")
        return Route(name, f"{name}@{version}", ModelKind.ADAPTER, version, fallback=falls)


class Engine:
    """Refuses the broken version, before or after its first text, and answers with any other."""

    def __init__(self, failure: Failure = REFUSED, *, after_text: bool = False) -> None:
        self.failure, self.after_text = failure, after_text
        self.asked: list[str] = []

    async def generate(self, request: Any) -> Any:
        self.asked.append(request.version)
        receipt = Receipt(request.request_id, version_digest=request.version)
        yield Opening(receipt)
        if request.version == BROKEN and not self.after_text:
            raise self.failure
        yield TextDelta("word")
        if request.version == BROKEN:
            raise self.failure
        yield Generated(None, Usage(), (), receipt)  # type: ignore[arg-type]  # why it ended is nothing here


async def answered(names: Names, engine: Engine, model: str = "broken", fallback: str = "") -> Generated:
    unused: Any = None
    router = Router(names, engine, unused)  # type: ignore[arg-type]  # what generates is all that is asked
    recorder: Any = Records()
    answerer = Answerer(engine, recorder, router)  # type: ignore[arg-type]  # an engine is all that generates
    wish = Wish(model, request_id="r1", fallback=fallback)
    with serving(ASKING):
        route = await router.resolve(model, fallback=fallback)
        async with (
            asyncio.timeout(HANG_SECONDS),
            aclosing(answerer.answer("p", wish, route, Stopwatch(lambda: 0.0))) as parts,
        ):
            ends = [part async for part in parts if isinstance(part, Generated)]
    return ends[0]


async def test_what_the_owner_declared_answers_and_the_end_says_what_why_and_by_which_weights():
    end = await answered(Names(broken="base"), engine := Engine())
    assert engine.asked == [BROKEN, ""]
    (told,) = end.fallbacks
    assert (told.stage, told.instead) == ("route", "base")
    assert BROKEN in told.reason
    assert "a tensor is missing" in told.reason
    receipt = end.receipt
    assert (receipt.requested_model, receipt.resolved_model, receipt.version_digest) == ("broken", "base", "")


async def test_what_the_request_says_counts_before_the_owners_word():
    end = await answered(Names(broken="base"), Engine(), fallback="sound")
    assert end.receipt.version_digest == SOUND
    with pytest.raises(Failure) as failed:
        await answered(Names(broken="base"), engine := Engine(), fallback="none")
    assert failed.value.reason is Reason.WEIGHTS_REFUSED
    assert engine.asked == [BROKEN]


async def test_without_a_declaration_the_request_fails_as_it_did():
    with pytest.raises(Failure) as failed:
        await answered(Names(), Engine())
    assert failed.value.reason is Reason.WEIGHTS_REFUSED


async def test_once_text_was_told_nothing_else_answers():
    with pytest.raises(Failure) as failed:
        await answered(Names(broken="base"), engine := Engine(after_text=True))
    assert failed.value.reason is Reason.WEIGHTS_REFUSED
    assert engine.asked == [BROKEN]


@pytest.mark.parametrize("reason", [Reason.OVERLOADED, Reason.PROMPT_TOO_LONG, Reason.PEER_UNAVAILABLE])
async def test_a_full_queue_and_a_wrong_request_are_no_reason(reason):
    with pytest.raises(Failure) as failed:
        await answered(Names(broken="base"), Engine(Failure(reason)))
    assert failed.value.reason is reason


async def test_an_alias_that_serves_nothing_falls_back_too():
    names = Names(sound="base")
    names.unserved.add("sound")
    end = await answered(names, engine := Engine(), "sound")
    assert engine.asked == [""]
    assert [(told.instead, "ready" in told.reason) for told in end.fallbacks] == [("base", True)]
    assert end.receipt.requested_model == "sound"


async def test_a_chain_ends_where_something_answers_and_one_in_a_circle_ends_too():
    names = Names(sound="broken", broken="base")
    names.unserved.add("sound")
    end = await answered(names, Engine(), "sound")
    assert [told.instead for told in end.fallbacks] == ["broken", "base"]
    with pytest.raises(Failure) as failed:
        await answered(Names(broken="broken"), engine := Engine())
    assert failed.value.reason is Reason.WEIGHTS_REFUSED
    assert len(engine.asked) == 4


async def test_a_fallback_that_serves_nothing_is_left_for_its_own_and_each_step_is_told():
    names = Names(sound="other", other="base", unserved="sound other")
    end = await answered(names, engine := Engine(), "sound")
    assert engine.asked == [""]
    assert [(told.stage, told.instead) for told in end.fallbacks] == [("route", "other"), ("route", "base")]
    assert [told.reason.partition(":")[0] for told in end.fallbacks] == ["sound", "other"]
    assert (end.receipt.requested_model, end.receipt.resolved_model) == ("sound", "base")
    # The same where the version was found out only by the engine.
    end = await answered(Names(broken="other", other="base", unserved="other"), Engine(), "broken")
    assert [told.instead for told in end.fallbacks] == ["other", "base"]


@pytest.mark.parametrize("last", ["sound", "none", "", "lost"])
async def test_a_chain_of_names_that_serve_nothing_ends_with_what_the_last_one_says(last):
    names = Names(sound="other", other=last, unserved="sound other")
    with pytest.raises(Failure) as failed:
        await answered(names, Engine(), "sound")
    assert failed.value.reason is (Reason.MODEL_NOT_FOUND if last == "lost" else Reason.ALIAS_NOT_SERVING)
    # In a circle each name is asked twice at most.
    assert len(names.asked) == (4 if last == "sound" else 3 if last == "lost" else 2)
