"""Models side by side: by name or digest, loaded once, and one that cannot be had harms no other."""

import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.embedder.model import EncoderFacts
from services.embedder.shelf import Place, Shelf


class Folder:
    """A model's folder that is counted, and may be missing."""

    def __init__(self, name, missing=False):
        self.name, self.missing = name, missing
        self.described = self.loads = 0

    async def describe(self):
        self.described += 1
        if self.missing:
            raise Failure(Reason.MODEL_SOURCE_INVALID, uri=f"file:{self.name}", problem="there is nothing", name="x")
        return EncoderFacts(self.name, f"sha256:{self.name}", 4, 8, 10)

    async def load(self):
        await asyncio.sleep(0)
        self.loads += 1
        return await self.describe(), self.name.upper()

    def place(self):
        return Place(self.name, self.describe, self.load)


async def test_a_name_a_digest_and_nothing_find_their_model_and_others_are_told_what_there_is():
    shelf = Shelf((Folder("one").place(), Folder("two").place()))
    assert [await shelf.require(name) for name in ("", "one", "two", "sha256:two")] == ["ONE", "ONE", "TWO", "TWO"]
    with pytest.raises(Failure) as failed:
        await shelf.require("three", ["cross"])
    assert failed.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
    assert failed.value.variables["known"] == "one, two, cross"


async def test_a_model_is_loaded_when_it_is_named_and_once_however_many_ask():
    one, two = Folder("one"), Folder("two")
    shelf = Shelf((one.place(), two.place()))
    await shelf.describe()
    assert (one.loads, two.loads) == (0, 0)
    await asyncio.gather(*(shelf.require("two") for _ in range(5)))
    assert (one.loads, two.loads) == (0, 1)


async def test_a_model_that_cannot_be_had_says_why_to_who_names_it_and_to_nobody_else():
    lost, there = Folder("lost", missing=True), Folder("there")
    shelf = Shelf((Folder("one").place(), lost.place(), there.place()))
    await shelf.describe()
    assert await shelf.require("there") == "THERE"
    assert await shelf.require("sha256:there") == "THERE"
    with pytest.raises(Failure) as failed:
        await shelf.require("lost")
    assert failed.value.reason is Reason.MODEL_SOURCE_INVALID
    assert lost.described == 2
    assert shelf.places[1].problem is not None
    lost.missing = False
    assert await shelf.require("lost") == "LOST"
    assert shelf.places[1].problem is None


async def test_of_two_models_of_a_name_the_first_is_meant():
    first, second = Folder("same"), Folder("same")
    shelf = Shelf((first.place(), second.place()))
    await shelf.require("same")
    assert (first.loads, second.loads) == (1, 0)
