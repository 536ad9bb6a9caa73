"""Promise 7: a training job's result does not depend on its neighbours."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.unit.trainer import programs
from tests.unit.trainer.bank import cast

SECONDS = 240.0

Found = dict[str, dict[str, str]]


def digests(base: Path, *groups: Sequence[str]) -> list[Found]:
    """Return what a fresh process computes for each group of jobs: sha256 by job, under each dtype and thread count."""
    words = [word for group in groups for word in ("--", *group)][1:]
    done = programs.start("tests.unit.trainer.bank.cast", base, *words).ended(SECONDS)
    assert done.status == 0, done.errors[-2000:]
    return [json.loads(line) for line in done.output.splitlines()[-len(groups) :]]


@pytest.fixture(scope="module")
def found(base: Path) -> list[Found]:
    """All jobs in changing company; each job alone on a new bank; one that was never in company."""
    return digests(base, ["together"], list(cast.JOBS), ["dropping"])


@pytest.mark.parametrize("job", cast.JOBS)
def test_a_job_in_changing_company_ends_with_the_bits_of_the_job_alone(job: str, found: list[Found]) -> None:
    together, alone, _ = found
    assert len(together) == len(cast.DTYPES) * len(cast.THREADS)
    assert {setting: here[job] for setting, here in together.items()} == {
        setting: here[job] for setting, here in alone.items()
    }


def test_a_process_that_knows_one_job_alone_finds_the_same(found: list[Found]) -> None:
    together, _, single = found
    assert {setting: {"dropping": here["dropping"]} for setting, here in together.items()} == single


@pytest.mark.parametrize("dtype", cast.DTYPES)
def test_a_slot_goes_on_to_the_same_bits_in_another_bank_slot_and_company(base: Path, dtype: str) -> None:
    names = ["dropping", "long", "plain"]
    whole = cast.train(cast.load(base, cast.DTYPES[dtype]), names, alone=False)

    job = cast.JOBS["dropping"]
    first = cast.load(base, cast.DTYPES[dtype])
    begun = cast.start(first, job)
    for _ in range(2):
        cast.step(first, [begun], [])
    kept = {name: tensor.clone() for name, tensor in begun.slot.tensors().items()}

    other = cast.load(base, cast.DTYPES[dtype])
    neighbours = [cast.start(other, cast.JOBS[name]) for name in ("partial", "single")]
    resumed = cast.start(other, job)
    resumed.slot.restore(kept)
    resumed.done = begun.done
    for _ in range(2):
        next(resumed.batches)
    for number in range(job.updates - 2):
        # One neighbour of the two leaves halfway.
        cast.step(other, [*neighbours[: 2 - number // 2], resumed], [])
    assert cast.digest(resumed.slot) == whole["dropping"]


@pytest.mark.parametrize("planted", [float("nan"), float("inf")])
def test_what_is_not_finite_in_one_segment_leaves_the_others_bits_alone(base: Path, planted: float) -> None:
    found = []
    for fails in (False, True):
        bank = cast.load(base, torch.bfloat16)
        plain, broken, partial = (cast.start(bank, cast.JOBS[name]) for name in ("plain", "single", "long"))
        if fails:
            broken.slot.weights.fill_(planted)
        before = broken.slot.weights.clone()
        for _ in range(3):
            cast.step(bank, [plain, broken, partial], [])
        found.append((cast.digest(plain.slot), cast.digest(partial.slot)))
        # A slot whose gradient is no number is left as it was.
        assert torch.equal(broken.slot.weights.nan_to_num(), before.nan_to_num()) == fails
        assert broken.slot.step == (0 if fails else 3)
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", cast.DTYPES)
def test_recomputed_layers_give_the_bits_of_kept_ones(base: Path, dtype: str) -> None:
    kept, recomputed = (
        cast.train(cast.load(base, cast.DTYPES[dtype]), list(cast.JOBS), alone=False, recomputes=recomputes)
        for recomputes in (False, True)
    )
    assert kept == recomputed
