"""What counts attempts at crossing tells a service that leaks from one that does not."""

import random
import uuid
from dataclasses import dataclass
from typing import cast

import pytest

from tests.security.crossing.compared import same
from tests.security.crossing.doors import Asked, Door, Heard
from tests.security.crossing.latencies import area
from tests.security.crossing.likeness import any_says
from tests.security.crossing.surface import Answered, Caller, Rpc
from tests.security.crossing.treasure import Treasure, texts
from tests.security.crossing.trial import Report, Stranger, Strangers, Trial

_COLLECTIONS = tuple(f"papers-{uuid.uuid4().hex[:12]}" for _ in range(20))
_TREASURE = Treasure({"collection": _COLLECTIONS, "next_page_token": ("eyJhIjoxfQ",)}, frozenset(_COLLECTIONS))
_ATTEMPTS = 300
_MISSING = Answered("NOT_FOUND", "COLLECTION_NOT_FOUND", "No collection is named {}.")


@dataclass
class Service:
    """Answers both doors: of the owner's collections as ``foreign`` says, of all others that they are missing."""

    foreign: Answered = _MISSING
    status: int = 404

    async def call(self, rpc: Rpc, request) -> Answered:
        named = [value for _, value in texts(request) if value in _COLLECTIONS]
        answer = self.foreign if named else _MISSING
        said = next((value for _, value in texts(request)), "")
        return Answered(answer.code, answer.reason, answer.sentence.format(said), answer.messages)

    async def ask(self, asked: Asked) -> Heard:
        real = any(name in asked.path for name in _COLLECTIONS)
        return Heard(self.status if real else 404, (), "{}")


async def report_of(service: Service) -> Report:
    async def strangers() -> Strangers:
        one = Stranger(cast("Caller", service), cast("Door", service))
        return Strangers(one, one)

    trial = Trial(_TREASURE, "owner", strangers, random.Random(0))
    await trial.attempt(_ATTEMPTS)
    return trial.report


async def test_a_service_that_knows_no_others_passes():
    report = await report_of(Service())
    assert (report.reads, report.told_apart) == ([], [])
    assert report.made.total() >= _ATTEMPTS


async def test_what_nobody_said_is_read():
    told = Answered("NOT_FOUND", "COLLECTION_NOT_FOUND", f"Not {{}}: but {', '.join(_COLLECTIONS)}.")
    assert (await report_of(Service(told))).reads


def test_a_thing_is_said_by_what_it_is_in_and_its_name_and_not_by_one_of_them():
    said = ["collections/papers-1/documents/a.md", "tenants/owner-1"]
    assert any_says(said, "tenants/owner-1/collections/papers-1")
    assert not any_says(said, "tenants/owner-1/collections/papers-2")
    assert not any_says(said[:1], "tenants/owner-1/collections/papers-1")


async def test_a_sentence_that_only_real_things_get_tells_them_apart():
    report = await report_of(Service(Answered("PERMISSION_DENIED", "COLLECTION_FOREIGN", "{} is not yours.")))
    assert report.told_apart
    assert report.reads == []


async def test_a_status_that_only_real_things_get_tells_them_apart():
    report = await report_of(Service(status=403))
    assert report.told_apart
    assert all(line.startswith(("GET", "POST", "DELETE")) for line in report.told_apart)


def test_the_area_is_a_half_of_one_distribution_and_nothing_of_what_is_always_sooner():
    chance = random.Random(0)
    one, other = ([chance.gauss(1, 0.1) for _ in range(300)] for _ in range(2))
    assert abs(area(one, other) - 1 / 2) < 0.1
    assert area([it - 1 for it in one], other) < 0.01
    assert area([it - 0.1 for it in one], other) < 0.4


@pytest.mark.parametrize("shown", [64, 128], ids=["64-characters", "128-characters"])
def test_a_text_of_the_callers_that_is_shown_as_far_as_it_goes_tells_nothing_apart(shown: int) -> None:
    told = [f"{shown}/{letter * 200}" for letter in "ab"]
    answers = [Answered("INVALID_ARGUMENT", "WEIGHTS_REFUSED", f"{it[:shown]} is no file of a model.") for it in told]
    assert same(answers[0], told[:1]) == same(answers[1], told[1:])
    # Less than that of another's is another's.
    assert same(answers[0], told[1:]) != same(answers[1], told[1:])
