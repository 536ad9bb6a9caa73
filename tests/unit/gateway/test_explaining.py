"""What a model name means is told with why: of auto each candidate, how sure it is, and from where on it would be."""

from typing import Any

import pytest

from gateway.auto.choosing import Candidates
from gateway.generator import Engine, EngineState
from gateway.names import BASE
from gateway.routing import ModelKind, Route, Router
from services.chassis.errors import Failure, Reason
from tests.harness.wording import missing
from tests.unit.gateway.test_auto_choice import BANK, FARES, Asked
from tests.unit.gateway.test_auto_choice import asking as serving_tenant

DIGEST = "sha256:" + "b" * 64
VERSIONS = {name: "sha256:" + letter * 64 for name, letter in (("fares", "f"), ("bank", "c"))}
ABOUT_FARES, ABOUT_NOTHING = "what is the fare for this ticket", "sing me a song of six pence"


class Peers:
    """A registry of two models, and two engines of the base, one of them not ready."""

    def __init__(self, *resident):
        self.resident = frozenset(resident)

    async def resolve(self, name, sticky_key=""):
        if name not in VERSIONS:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name, nearest="")
        version = VERSIONS[name]
        return Route(name, f"{name}@{version}", ModelKind.ADAPTER, version, base_digest=DIGEST, alias="prod")

    async def engines(self):
        return [Engine("a", EngineState.READY, "", DIGEST), Engine("b", EngineState.STARTING, "", DIGEST)]

    async def resident_versions(self):
        return self.resident


async def explained(name, question="", *resident, candidates=(BANK, FARES)):
    chooser = Asked(ada=Candidates("1", candidates))
    chooser.listing.tenant = "ada"
    peers: Any = Peers(*resident)  # the two verbs of each that explaining asks
    with serving_tenant("ada"):
        return await Router(peers, peers, chooser.chooser).explain(name, question=question)


async def test_auto_tells_the_candidates_in_their_order_and_why_the_first_one_is_meant():
    found = await explained("auto", ABOUT_FARES, VERSIONS["fares"])
    choice = found.choice
    assert [it.model for it in choice.candidates] == ["fares", "bank"]
    first, second = (it.score for it in choice.candidates)
    assert 1 >= first > second >= -1
    assert choice.confidence >= choice.threshold > 0
    assert not choice.abstained
    assert (found.route.resolved, found.engines) == (f"fares@{VERSIONS['fares']}", ("a",))
    assert (found.model.name, found.model.kind) == ("auto", ModelKind.AUTO)
    assert (found.model.version, found.model.base_digest) == (VERSIONS["fares"], DIGEST)
    confident = f"{choice.confidence:.2f}", f"{choice.threshold:.2f}"
    assert not missing(found.reason, "fares", *confident, "alias prod")
    # Where no engine holds it, that is told too.
    assert "engine" not in found.reason
    assert "engine" in (await explained("auto", ABOUT_FARES)).reason


async def test_auto_tells_that_it_abstains_how_unsure_it_is_and_of_which_candidates():
    found = await explained("auto", ABOUT_NOTHING)
    choice = found.choice
    assert choice.abstained
    assert choice.confidence < choice.threshold
    assert sorted(it.model for it in choice.candidates) == ["bank", "fares"]
    scores = [it.score for it in choice.candidates]
    assert scores == sorted(scores, reverse=True)
    assert (found.route.kind, found.route.resolved, found.engines) == (ModelKind.BASE, BASE, ("a",))
    assert (found.model.name, found.model.kind, found.model.version) == ("auto", ModelKind.AUTO, "")
    assert f"nearest {choice.candidates[0].model}" in found.reason
    assert "no adapter" in found.reason


@pytest.mark.parametrize(("question", "candidates"), [("", (BANK, FARES)), (ABOUT_FARES, ())])
async def test_auto_without_a_question_or_anything_to_choose_from_says_so(question, candidates):
    found = await explained("auto", question, candidates=candidates)
    assert (found.choice.candidates, found.choice.confidence, found.choice.threshold) == ((), 0.0, 0.0)
    assert found.route.resolved == BASE
    assert ("no question" if not question else "No model that serves") in found.reason


async def test_a_name_is_no_choice():
    found = await explained("bank", ABOUT_FARES, VERSIONS["bank"])
    assert (found.choice, found.route.version, found.model.name) == (None, VERSIONS["bank"], "bank")
