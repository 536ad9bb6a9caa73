"""Many jobs in one worker: each ends with the bits that it has alone, whoever joins, leaves, fails or is killed."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trivium.trainer.v1 import training_pb2

from services.trainer.settings import Initialisation, Keep, Method, Metric, Objective, Schedule, Settings
from services.trainer.work import Command, Do, Line, Said
from tests.harness.plugin_sampling import sample
from tests.unit.trainer.joint.company import JUDGED, PAIRS, PLAIN, text
from tests.unit.trainer.joint.workers import Bench, Mother, Running, digest, is_last, join
from tests.unit.trainer.orders import as_ordered

COMMON = Settings(rank=4, alpha=8, batch_rows=3, epochs=3, learning_rate=1e-2, checkpoint_steps=3)
# A dozen, and one more, that differ in all that may differ on one base.
MIXED: dict[str, tuple[Settings, Sequence[dict[str, Any]]]] = {
    "plain": (COMMON, PLAIN),
    # The same with less memory.
    "thrifty": (replace(COMMON, gradient_checkpointing=True), PLAIN),
    "large": (replace(COMMON, rank=32, alpha=64, batch_rows=8, seed=1), PLAIN),
    "dropout": (replace(COMMON, dropout=0.2, schedule=Schedule.COSINE, seed=2), PLAIN),
    "split": (replace(COMMON, micro_batch_tokens=48, batch_rows=6, dropout=0.1, seed=3), PLAIN),
    "attention": (replace(COMMON, target_modules=("q_proj", "v_proj"), rank=8, seed=4), PLAIN),
    "layer": (replace(COMMON, layers=(1,), exclude_modules=("k_proj",), weight_decay=0.1, seed=5), PLAIN),
    "rslora": (replace(COMMON, method=Method.RSLORA, initialisation=Initialisation.ORTHOGONAL, seed=6), PLAIN),
    "evaluated": (replace(COMMON, validation_ratio=0.3, evaluation_steps=1, keep=Keep.BEST, seed=7), PLAIN),
    "answering": (
        replace(COMMON, validation_ratio=0.3, generation_rows=2, generation_tokens=6, metric=Metric.TOKEN_F1, seed=8),
        PLAIN,
    ),
    "pairs": (replace(COMMON, objective=Objective.DPO, batch_rows=2, dropout=0.1, seed=9), PAIRS),
    "judged": (replace(COMMON, objective=Objective.KTO, batch_rows=4, seed=10), JUDGED),
    "texts": (replace(COMMON, objective=Objective.CONTINUED, max_row_tokens=24, seed=11), [{"text": "A door. " * 20}]),
}
DIVERGING = replace(COMMON, learning_rate=1e30, max_gradient_norm=0.0, epochs=20)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, mother: Mother) -> dict[str, str]:
    """What each of the dozen ends with in a fresh worker that knows nothing of the others."""
    bench = Bench(tmp_path_factory.mktemp("alone"), mother.base, mother)
    found = {}
    for name, (settings, rows) in MIXED.items():
        folder = bench.job(name, settings, text(rows))
        worker = bench.worker()
        worker.tell(join(folder))
        last = worker.until(is_last)
        assert last.said is Said.DONE, last
        worker.end()
        found[name] = digest(folder)
    return found


def ordered(bench: Bench, names: Sequence[str]) -> dict[str, Path]:
    """Write the jobs' orders."""
    return {name: bench.job(name, MIXED[name][0], text(MIXED[name][1])) for name in names}


def until_ended(worker: Running, count: int) -> dict[str, Said]:
    """Wait for the last words of so many jobs."""
    ended: dict[str, Said] = {}
    while len(ended) < count:
        line = worker.until(is_last)
        ended[line.job] = line.said
    return ended


def test_a_dozen_mixed_jobs_end_with_the_bits_that_each_has_alone(bench: Bench, alone: dict[str, str]) -> None:
    folders = ordered(bench, list(MIXED))
    names = list(folders)
    worker = bench.worker()
    diverging = bench.job("diverging", DIVERGING, text(PLAIN))
    doomed = bench.job("doomed", replace(COMMON, epochs=500), text(PLAIN))
    for folder in (doomed, diverging, *(folders[name] for name in names[:6])):
        worker.tell(join(folder))
    worker.until(lambda line: line.said is Said.STEP and line.job == names[2] and line.progress.step == 2)
    # One leaves with a checkpoint, the rest arrive.
    worker.tell(Command(Do.STOP, job=names[0], epoch=1))
    for name in names[6:]:
        worker.tell(join(folders[name]))
    worker.until(lambda line: line.said is Said.STEP and line.job == names[6] and line.progress.step == 1)
    worker.tell(Command(Do.DROP, job="doomed", epoch=1))
    left = len(names) + 2 - len([line for line in worker.said if is_last(line)])
    until_ended(worker, left)
    worker.tell(join(folders[names[0]], epoch=2))
    if not [line for line in worker.said if line.job == names[0] and line.said is Said.DONE]:
        assert worker.until(is_last).said is Said.DONE
    worker.end()
    assert {name: digest(folder) for name, folder in folders.items()} == alone
    assert alone["thrifty"] == alone["plain"]
    (refused,) = [line for line in worker.said if line.said is Said.REFUSED]
    assert (refused.job, refused.reason) == ("diverging", "TRAINING_DIVERGED")
    assert f"at step {max(steps(worker, 'diverging')) + 1} the loss is" in refused.message


@pytest.mark.timeout(900)
def test_a_job_that_its_rate_ruins_is_frozen_alone_and_at_the_same_step_wherever_it_was_killed(
    fragile_bench: Bench,
) -> None:
    bench = fragile_bench
    common = {"batch_rows": 3, "checkpoint_steps": 2, "learning_rate": 1e-4}
    sound = {
        "slow": as_ordered(**common, epochs=6),
        "pairs": as_ordered(**common, epochs=9, objective=training_pb2.OBJECTIVE_DPO),
    }
    ruined = {
        "ruined": as_ordered(**common | {"learning_rate": 1.0}, epochs=100),
        "ruined-pairs": as_ordered(**common | {"learning_rate": 1.0}, epochs=100, objective=training_pb2.OBJECTIVE_DPO),
    }

    def trained(prefix: str, names: Sequence[str], worker: Running, epoch: int = 1) -> dict[str, Line]:
        """The last words of jobs that a worker trains together, by name."""
        for name in names:
            worker.tell(join(bench.root / "jobs" / f"{prefix}{name}", epoch=epoch))
        found: dict[str, Line] = {}
        while len(found) < len(names):
            line = worker.until(is_last)
            found[line.job.removeprefix(prefix)] = line
        return found

    def order(prefix: str, names: Sequence[str]) -> None:
        for name in names:
            rows = PAIRS if "pairs" in name else PLAIN
            bench.job(f"{prefix}{name}", (sound | ruined)[name], text(rows))

    order("alone-", [*sound, *ruined])
    worker = bench.worker()
    alone = {name: trained("alone-", [name], worker)[name] for name in (*sound, *ruined)}
    order("together-", [*sound, *ruined])
    together = trained("together-", [*ruined, *sound], worker)
    worker.end()
    for name in sound:
        assert {alone[name].said, together[name].said} == {Said.DONE}, alone[name]
        first, second = (digest(bench.root / "jobs" / f"{prefix}{name}") for prefix in ("alone-", "together-"))
        assert first == second
    for name in ruined:
        assert alone[name].reason == "TRAINING_DIVERGED"
        assert "it is 1, try 0.0" in alone[name].message
        assert (together[name].message, together[name].sound_step) == (alone[name].message, alone[name].sound_step)
    for kill_at in sample(range(2, 36), every=17):
        order(f"killed-{kill_at}-", list(ruined))
        folders = [bench.root / "jobs" / f"killed-{kill_at}-{name}" for name in ruined]
        assert bench.worker(kill_at=kill_at).trains_until_killed(folders)
        worker = bench.worker()
        again = trained(f"killed-{kill_at}-", list(ruined), worker, epoch=2)
        worker.end()
        assert {name: line.message for name, line in again.items()} == {name: alone[name].message for name in ruined}


def steps(worker: Running, job: str) -> list[int]:
    """The steps that were told of a job."""
    return [line.progress.step for line in worker.said if line.said is Said.STEP and line.job == job]


# Of these every write is struck: references, an evaluation, the best weights and dropout are in their checkpoints.
STRUCK = ("pairs", "evaluated")
# Workers' kills that one worker makes good together.
TOGETHER = 12


@pytest.mark.timeout(900)
def test_workers_killed_at_every_write_point_are_made_good_in_other_company_to_the_same_bits(
    bench: Bench, alone: dict[str, str]
) -> None:
    struck: list[dict[str, Path]] = []
    for kill_at in [1, *sample(range(2, 1000), every=7)]:
        folders = {name: bench.job(f"{name}-{kill_at}", MIXED[name][0], text(MIXED[name][1])) for name in STRUCK}
        struck.append(folders)
        if not bench.worker(kill_at=kill_at).trains_until_killed(list(folders.values())):
            break
    for begin in range(0, len(struck), TOGETHER):
        worker = bench.worker()
        some = [folder for folders in struck[begin : begin + TOGETHER] for folder in folders.values()]
        for folder in reversed(some):
            worker.tell(join(folder, epoch=2))
        until_ended(worker, len(some))
        worker.kill()
    assert [{name: digest(folder) for name, folder in folders.items()} for folders in struck] == (
        [{name: alone[name] for name in STRUCK}] * len(struck)
    )
    # Two jobs, each with at least two checkpoints of nine points and a result of three: at the last none was there.
    assert kill_at > 2 * (2 * 9 + 3)


def test_jobs_whose_worker_is_killed_at_random_end_with_the_same_bits(bench: Bench, alone: dict[str, str]) -> None:
    names = ["dropout", "split", "answering", "judged", "texts"]
    folders, draw, kills = ordered(bench, names), random.Random(5), 0
    left, known = list(names), set[tuple[str, int]]()
    while left:
        worker = bench.worker()
        for name in draw.sample(left, len(left)):
            worker.tell(join(folders[name], epoch=kills + 1))
        # Who goes on says again what it had said: each second life lasts until some steps are new, or nothing ever ends.
        least_lines, least_new = draw.randint(5, 30), kills % 2 * draw.randint(1, 6)
        for count, line in enumerate(worker.lines(), start=1):
            if is_last(line):
                assert line.said is Said.DONE, line
                left.remove(line.job)
            step = (line.job, line.progress.step)
            least_new -= line.said is Said.STEP and step not in known
            known.add(step)
            if not left or (count >= least_lines and least_new <= 0):
                break
        worker.kill()
        kills += 1
    assert kills > 3
    assert {name: digest(folder) for name, folder in folders.items()} == {name: alone[name] for name in names}
