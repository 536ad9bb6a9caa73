"""Promise 5, by the hundred: damaged and hostile adapters are refused with a reason by the generator's own check.

One of each class here, without an engine: the code of the check runs on each of them, and its limited child on a sample.
``make bench NAME=generator ARGS=corpus`` puts all of them through the registry and, past it, into an engine.
"""

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.inspection import Unfit, inspect
from services.generator.verification import CONFIG, WEIGHTS, BaseRules, base_rules
from tests.harness.plugin_sampling import sample
from tests.harness.trap import was_sprung
from tests.load.generator.corpus.bench import Outcomes, judged
from tests.load.generator.corpus.classes import CLASSES, SEED, VARIANTS, Specimen, corpus

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
def specimens(rules: BaseRules) -> list[Specimen]:
    """One adapter of each class."""
    return list(corpus(rules.widths, variants=1))


@pytest.fixture(scope="module")
def problems(
    rules: BaseRules, specimens: list[Specimen], tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, str]:
    """Why each class is refused, by the check's own code; empty for a class that is accepted."""
    return {it.kind: problem(it, rules, tmp_path_factory.mktemp("adapter")) for it in specimens}


def problem(specimen: Specimen, rules: BaseRules, folder: Path) -> str:
    # The generator asks the registry for these two and for nothing else.
    if not {WEIGHTS, CONFIG} <= specimen.files.keys():
        return "The manifest lacks a file."
    for name in (WEIGHTS, CONFIG):
        (folder / name).write_bytes(specimen.files[name])
    try:
        inspect(folder, rules.max_rank, rules.widths)
    except Unfit as unfit:
        return str(unfit)
    return ""


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CLASSES) >= 40
    assert len(CLASSES) * VARIANTS >= 500


def test_the_corpus_is_the_same_every_time(rules: BaseRules, specimens: list[Specimen]) -> None:
    assert list(corpus(rules.widths, variants=1, seed=SEED)) == specimens


def test_every_class_is_judged_and_only_harmless_ones_pass(problems: Mapping[str, str]) -> None:
    assert problems.keys() == CLASSES.keys()
    passed = {kind for kind, why in problems.items() if not why}
    assert passed
    assert passed <= HARMLESS


async def test_the_limited_child_gives_the_same_verdict_with_a_reason(
    rules: BaseRules, specimens: list[Specimen], problems: Mapping[str, str], tmp_path: Path
) -> None:
    chosen, outcomes = sample(specimens, every=8), Outcomes("verification")
    passed = {specimen.kind for specimen, _ in await judged(chosen, rules, tmp_path, outcomes)}
    assert passed == {specimen.kind for specimen in chosen if not problems[specimen.kind]}
    assert not outcomes.unreasoned


def test_nothing_in_it_was_executed(problems: Mapping[str, str]) -> None:
    assert problems
    assert not was_sprung()
