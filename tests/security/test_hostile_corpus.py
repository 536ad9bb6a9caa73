"""Promise 5, by the hundred: damaged and hostile adapters are refused with a reason by the generator's own check.

One of each class here, without an engine.  ``make bench NAME=generator ARGS=corpus`` puts all of them through the
registry and, past it, into an engine.
"""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.verification import BaseRules, base_rules
from tests.load.generator.corpus.bench import Outcomes, judged
from tests.load.generator.corpus.classes import CLASSES, SEED, VARIANTS, corpus

# What one of these holds is odd and harmless: unusual numbers, and words that the generator never reads.
HARMLESS = {
    "metadata of another shape", "a file beside the two", "other dimensions", "the largest numbers",
    "numbers whose products overflow", "numbers that drown the base", "the largest half precision",
    "the smallest numbers", "zeros of both signs", "another encoding", "a rank that no module has",
    "an alpha that drowns the base", "an alpha of nothing", "targets that the file has not",
    "targets as a costly expression", "ranks that are none", "alphas that are none", "patterns with dots for letters",
    "layers to transform", "exclusions as a costly expression", "a base of another name",
    "a scale by rank that is no answer",
}  # fmt: skip


@pytest.fixture(scope="module")
def rules() -> BaseRules:
    """The default base's."""
    return base_rules(resolve(DEFAULT_BASE).path, 16)


@pytest.fixture(scope="module")
def found(rules: BaseRules, tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of one adapter of each class."""
    outcomes = Outcomes("verification")
    passed = asyncio.run(judged(list(corpus(rules.widths, variants=1)), rules, tmp_path_factory.mktemp("c"), outcomes))
    for specimen, _ in passed:
        outcomes.outcomes[specimen.kind]["passed"] += 1
    return outcomes


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CLASSES) >= 40
    assert len(CLASSES) * VARIANTS >= 500


def test_the_corpus_is_the_same_every_time(rules: BaseRules) -> None:
    first, second = (list(corpus(rules.widths, variants=1, seed=SEED)) for _ in range(2))
    assert first == second


def test_every_class_is_judged_and_only_harmless_ones_pass(found: Outcomes) -> None:
    assert found.adapters == len(CLASSES)
    passed = {kind for kind, counted in found.outcomes.items() if counted["passed"]}
    assert passed <= HARMLESS


def test_each_refusal_has_a_reason_of_its_own(found: Outcomes) -> None:
    assert not found.unreasoned


def test_nothing_in_it_was_executed(found: Outcomes) -> None:
    assert sum(found.outcomes.values(), Counter())
    assert not Path("/tmp/trivium-trap-was-sprung").exists()
