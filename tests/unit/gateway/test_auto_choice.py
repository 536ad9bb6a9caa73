"""Which name auto means, for whom, and what is fitted anew when."""

import asyncio
import zlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from gateway.auto.choosing import Candidate, Candidates, Chooser, Meanings
from gateway.auto.outside import OUTSIDE
from gateway.names import BASE
from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from tests.harness.wording import missing

WORDS = ("fare", "ticket", "fog", "boat", "card", "bank")
FARES = Candidate("fares", "Fares.", ("a fare", "the fare of a ticket", "which ticket", "fare please"))
BANK = Candidate("bank", "", ("my card", "a bank card", "the bank", "is this my bank"))


def asking(tenant):
    return serving(RequestContext(tenant, "key", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Chat"))


@dataclass
class Embedding:
    """A word is a direction; a text without any of them is one of its own."""

    digest: str = "sha256:a"
    away: bool = False
    asked: list[int] = field(default_factory=list)

    async def embed(self, questions):
        if self.away:
            raise Failure(Reason.PEER_UNAVAILABLE, service="embedder", retry_after_seconds=1.0)
        self.asked.append(len(questions))
        await asyncio.sleep(0)
        return Meanings(np.stack([self._of(text) for text in questions]), self.digest)

    def _of(self, text):
        random = np.random.default_rng(zlib.crc32(text.encode()))
        vector = random.standard_normal(40) * 0.05
        for at, word in enumerate(WORDS):
            vector[at] += float(word in text)
        if not any(word in text for word in WORDS):
            vector[len(WORDS) :] += random.standard_normal(34)
        return vector / np.linalg.norm(vector)


@dataclass
class Listing:
    """Candidates by tenant, under an etag of their own."""

    lists: dict[str, Candidates]
    tenant: str = ""
    told: list[bool] = field(default_factory=list)

    async def candidates(self, etag):
        now = self.lists.get(self.tenant, Candidates("none", ()))
        self.told.append(etag != now.etag)
        return None if etag == now.etag else now


class Asked:
    def __init__(self, **lists):
        self.listing, self.embedding = Listing(lists), Embedding()
        self.chooser = Chooser(self.listing, self.embedding, self._at_once)

    async def _at_once(self, function, *arguments):
        await asyncio.sleep(0)
        return function(*arguments)

    async def choose(self, question, tenant="ada"):
        self.listing.tenant = tenant
        with asking(tenant):
            return await self.chooser.choose(question)

    async def any(self, tenant):
        self.listing.tenant = tenant
        with asking(tenant):
            return await self.chooser.any()


async def test_a_question_goes_to_the_model_whose_examples_it_is_like():
    asked = Asked(ada=Candidates("1", (BANK, FARES)))
    choice = await asked.choose("what is the fare for this ticket")
    assert (choice.model, choice.abstained) == ("fares", False)
    assert [item.model for item in choice.candidates] == ["fares", "bank"]
    assert choice.confidence >= choice.threshold > 0
    assert "fares" in choice.reason


async def test_a_question_that_no_model_is_for_goes_to_the_base_and_says_why():
    choice = await Asked(ada=Candidates("1", (BANK, FARES))).choose("who composed this")
    assert (choice.model, choice.abstained) == (BASE, True)
    assert choice.confidence < choice.threshold
    assert not missing(choice.reason, choice.candidates[0].model, "base")


@pytest.mark.parametrize("question", ["", "   "])
async def test_without_a_question_the_base_answers_and_nobody_is_asked(question):
    asked = Asked(ada=Candidates("1", (BANK, FARES)))
    assert (await asked.choose(question)).model == BASE
    assert not asked.embedding.asked


async def test_a_tenant_without_described_models_gets_the_base_and_hears_what_to_do():
    choice = await Asked().choose("what is the fare")
    assert choice.model == BASE
    assert "trivium models describe" in choice.reason


async def test_what_was_fitted_is_used_until_the_list_or_the_embedder_changes():
    asked = Asked(ada=Candidates("1", (BANK, FARES)))
    examples = len(OUTSIDE) + len(BANK.texts) + len(FARES.texts)
    for _ in range(3):
        await asked.choose("a fare")
    assert asked.embedding.asked == [1, examples, 1, 1]
    asked.listing.lists["ada"] = Candidates("2", (BANK,))
    assert (await asked.choose("a fare")).candidates[0].model == "bank"
    asked.embedding.digest = "sha256:b"
    await asked.choose("a fare")
    fewer = examples - len(FARES.texts)
    assert asked.embedding.asked[4:] == [1, fewer, 1, fewer]


async def test_one_tenants_models_are_never_anothers():
    asked = Asked(ada=Candidates("1", (FARES,)), bob=Candidates("1", (BANK,)))
    assert (await asked.choose("the fare of a ticket", "ada")).model == "fares"
    found = await asked.choose("the fare of a ticket", "bob")
    assert {item.model for item in found.candidates} == {"bank"}
    assert [await asked.any(tenant) for tenant in ("ada", "bob", "cy")] == [True, True, False]


async def test_many_who_ask_at_once_fit_once():
    asked = Asked(ada=Candidates("1", (BANK, FARES)))
    asked.listing.tenant = "ada"
    with asking("ada"):
        choices = await asyncio.gather(*(asked.chooser.choose("a fare") for _ in range(8)))
    assert {choice.model for choice in choices} == {"fares"}
    assert sum(count > 1 for count in asked.embedding.asked) == 1


async def test_an_embedder_that_is_away_is_named_and_the_base_does_not_answer_instead():
    asked = Asked(ada=Candidates("1", (FARES,)))
    asked.embedding.away = True
    with pytest.raises(Failure) as refused:
        await asked.choose("a fare")
    assert refused.value.reason is Reason.PEER_UNAVAILABLE
