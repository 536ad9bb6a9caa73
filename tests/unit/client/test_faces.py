"""The synchronous face says what the asynchronous one says, and the words of enums survive both ways."""

import inspect
import threading
from collections.abc import AsyncIterator

import pytest
from trivium.trainer.v1 import training_pb2
from trivium_client import AsyncTrivium, Trivium, synchronous, wire
from trivium_client.nouns import LoraSettings, TrainingSettings

NAMESPACES = ("collections", "docs", "data", "jobs", "models", "keys", "tenants")


def public(kind: object) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def test_every_call_of_the_asynchronous_sdk_is_in_the_synchronous_one() -> None:
    with Trivium(api_key="k") as client:
        assert public(AsyncTrivium) == public(Trivium)
        for namespace in NAMESPACES:
            face = getattr(client, namespace)
            assert public(face) == public(face._inner), namespace


def test_leaving_an_iterator_early_closes_its_source() -> None:
    loop = synchronous.Loop()
    closed = threading.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = loop.iterate(endless())
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    loop.stop()


def test_an_item_that_is_none_is_not_the_end() -> None:
    loop = synchronous.Loop()

    async def some() -> AsyncIterator[int | None]:
        yield None
        yield 1

    assert list(loop.iterate(some())) == [None, 1]
    loop.stop()


def test_settings_survive_the_wire_and_what_is_unset_stays_unset() -> None:
    settings = TrainingSettings(method="rslora", schedule="cosine", lora=LoraSettings(rank=8), epochs=2, seed=0)
    there_and_back = wire.settings(wire.settings_to_wire(settings))
    assert there_and_back == settings
    assert there_and_back.learning_rate is None


def test_an_unknown_word_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="lora, rslora"):
        wire.settings_to_wire(TrainingSettings(method="lroa"))


def test_an_enum_value_newer_than_the_client_is_shown_as_its_number() -> None:
    assert wire.word(training_pb2.JobState, 99) == "99"
