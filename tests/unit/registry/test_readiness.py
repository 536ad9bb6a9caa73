"""The decision over a target, for every combination of words."""

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as some

from services.registry.readiness import AliasState, Life, Readiness, ReadinessState, judge
from tests.harness.wording import missing

GENERATORS = tuple("abcde")
WORDS = some.dictionaries(some.sampled_from(GENERATORS), some.sampled_from(ReadinessState))


def words_of(said: dict[str, ReadinessState], life: str = "now") -> list[Readiness]:
    return [Readiness(name, "sha256:v", state, f"{name} says so", 0.0, life) for name, state in said.items()]


def lives_of(names: Iterable[str], life: str = "now") -> frozenset[Life]:
    return frozenset(Life(name, life) for name in names)


@given(WORDS, some.frozensets(some.sampled_from(GENERATORS)), some.integers(1, 5))
def test_it_serves_exactly_when_enough_living_generators_are_ready(said, living, min_ready):
    ready = sum(said.get(name) is ReadinessState.READY for name in living)
    verdict = judge(words_of(said), lives_of(living), min_ready)
    assert (verdict.state is AliasState.SERVING) == (ready >= min_ready)


@given(WORDS, some.frozensets(some.sampled_from(GENERATORS)), some.integers(1, 5))
def test_it_fails_only_on_a_refusal_and_never_while_enough_may_still_be_ready(said, living, min_ready):
    refused = {name for name in living if said.get(name) is ReadinessState.FAILED}
    verdict = judge(words_of(said), lives_of(living), min_ready)
    if verdict.state is AliasState.FAILED:
        assert refused
        assert len(living - refused) < min_ready
    elif refused and verdict.state is AliasState.PENDING:
        assert len(living - refused) >= min_ready


@given(WORDS, some.frozensets(some.sampled_from(GENERATORS)), some.integers(1, 5))
def test_what_does_not_serve_says_why(said, living, min_ready):
    verdict = judge(words_of(said), lives_of(living), min_ready)
    assert bool(verdict.reason) == (verdict.state is not AliasState.SERVING)


def test_the_dead_do_not_count():
    words = words_of({"a": ReadinessState.READY, "b": ReadinessState.FAILED})
    assert judge(words, lives_of("c"), 1).state is AliasState.PENDING
    assert "generator" in judge(words, frozenset(), 1).reason


def test_what_a_generator_said_in_a_former_life_does_not_count():
    for state in (ReadinessState.READY, ReadinessState.FAILED):
        assert judge(words_of({"a": state}, "before"), lives_of("a"), 1).state is AliasState.PENDING


def test_what_holds_a_generator_up_is_told_while_it_waits():
    assert "a: a says so" in judge(words_of({"a": ReadinessState.LOADING}), lives_of("a"), 1).reason


def test_a_refusal_names_generators_only_where_they_say_different_things() -> None:
    words = words_of(dict.fromkeys("ab", ReadinessState.FAILED))
    assert not missing(judge(words, lives_of("ab"), 1).reason, "a: a says so", "b: b says so")
    same = [replace(word, reason="rank 32 is over 16.") for word in words]
    assert judge(same, lives_of("ab"), 1).reason == "rank 32 is over 16"
