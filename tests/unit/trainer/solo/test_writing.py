"""Checkpoints are written while the next steps are taken, and are of the step that they name."""

import hashlib
import threading
import time
from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.trainer import checkpoints
from services.trainer.conduct import Refused
from services.trainer.settings import Method
from services.trainer.solo.order import Checkpointed, Stepped
from tests.unit.trainer.solo.small_jobs import METHODS, Job, with_settings

SECONDS = 30.0


class Slow:
    """A disk that does not get on with its first checkpoint until the job has begun so many steps."""

    def __init__(self, job: Job, until_step: int) -> None:
        self.job = job
        self.until_step = until_step
        self.points: list[str] = []
        self.waited = False
        self.begun = 0
        self._changed = threading.Condition()

    def each_step(self) -> None:
        """A step begins."""
        with self._changed:
            self.begun += 1
            self._changed.notify_all()

    def at(self, point: str) -> None:
        """A write is here."""
        self.points.append(point)
        if point == "folder made" and not self.waited:
            with self._changed:
                self.waited = self._changed.wait_for(lambda: self.begun >= self.until_step, SECONDS)


def digests(job: Job) -> dict[int, str]:
    """Of each checkpoint's tensors, by step."""
    return {
        found.progress.step: hashlib.sha256((found.folder / checkpoints.TENSORS).read_bytes()).hexdigest()
        for found in checkpoints.kept(job.order.kept)
    }


@pytest.mark.parametrize("method", METHODS)
def test_steps_go_on_while_a_checkpoint_is_written_which_none_of_them_changes(
    tmp_path: Path, base: Path, method: Method
) -> None:
    settings = with_settings(method=method, epochs=2, checkpoint_steps=4, evaluation_steps=1, dropout=0.1)
    calm, slow = (Job(tmp_path / name, base, settings) for name in ("calm", "slow"))
    calm.validation = slow.validation = calm.training[:3]
    # By then the fifth step has moved the weights, and its evaluation has given others that are best.
    disk = Slow(slow, until_step=6)
    assert slow.finish(at=disk.at, each_step=disk.each_step) == calm.finish()
    assert disk.waited
    assert digests(slow) == digests(calm)
    assert digests(slow).keys() == {4, 6}
    # One write after the other.
    assert disk.points[: len(disk.points) // 2] == disk.points[len(disk.points) // 2 :]
    # What is said is said in the order in which it happened, though it waits for the disk.
    assert [(type(report), report.progress.step) for report in slow.reports] == [
        (type(report), report.progress.step) for report in calm.reports
    ]


def test_a_checkpoint_is_said_once_it_is_durable_and_what_came_after_it_is_said_after(
    tmp_path: Path, base: Path
) -> None:
    job = Job(tmp_path / "job", base, with_settings(checkpoint_steps=1))
    disk = Slow(job, until_step=2)
    said_at: dict[str, list[str]] = {}

    def at(point: str) -> None:
        disk.at(point)
        said_at.setdefault(point, [type(report).__name__ for report in job.reports])

    job.finish(at=at, each_step=disk.each_step)
    assert said_at["folder renamed"] == said_at["folder made"] == ["Started", "Stepped"]
    steps = [report.progress.step for report in job.reports if isinstance(report, Stepped | Checkpointed)]
    assert steps == [1, 1, 2, 2, 3, 3]


def test_a_disk_that_fills_up_behind_a_step_ends_the_job_at_a_step_boundary_soon(tmp_path: Path, base: Path) -> None:
    # Of 30 steps the checkpoint after the 16th alone is not the last.
    settings = with_settings(epochs=10, checkpoint_steps=16)
    whole = Job(tmp_path / "calm", base, settings).finish()
    job = Job(tmp_path / "job", base, settings)
    disk = Slow(job, until_step=17)
    full = threading.Event()

    def at(point: str) -> None:
        disk.at(point)
        if point == "tensors written":
            full.set()
            raise Failure(Reason.DISK_FULL, what="the training jobs")

    def each_step() -> None:
        disk.each_step()
        # The disk of a machine that stalls is slower than ten steps; the writer's thread may be, too.
        if disk.begun >= 20:
            full.wait(SECONDS)
            time.sleep(0.2)

    with pytest.raises(Failure) as failure:
        job.train(at=at, each_step=each_step)
    assert failure.value.reason is Reason.DISK_FULL
    assert list(job.order.kept.iterdir()) == []
    # Nothing is said of what no checkpoint holds.
    assert [report.progress.step for report in job.said(Stepped)] == list(range(1, 17))
    assert 17 <= disk.begun < 30
    assert job.finish() == whole


def test_a_job_whose_lease_goes_to_another_while_it_writes_ends(tmp_path: Path, base: Path) -> None:
    job = Job(tmp_path / "job", base, with_settings(checkpoint_steps=1))
    root = job.order.kept
    job.under_lease(1)
    disk = Slow(job, until_step=2)

    def at(point: str) -> None:
        disk.at(point)
        if point == "folder synced":
            checkpoints.lease_folder(root, 2)

    with pytest.raises(checkpoints.LeaseLost):
        job.train(at=at, each_step=disk.each_step)
    assert checkpoints.kept(root) == []
    assert job.said(Checkpointed) == []


def test_a_job_that_diverges_while_its_checkpoint_is_written_leaves_it_whole(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.trainer.solo import trainers

    job = Job(tmp_path / "job", base, with_settings(checkpoint_steps=1))
    disk, left = Slow(job, until_step=2), threading.Event()
    left_alone: list[bool] = []

    def at(point: str) -> None:
        disk.at(point)
        if point == "tensors synced":
            left_alone.append(left.wait(0.3))

    monkeypatch.setattr(trainers, "norm_after_clipping", lambda *_: float("nan") if job.steps() else 1.0)
    with pytest.raises(Refused, match=r"\bstep 2\b"):
        job.train(at=at, each_step=disk.each_step)
    left.set()
    assert left_alone == [False]
    assert digests(job).keys() == {1}
    assert [report.progress.step for report in job.said(Checkpointed)] == [1]
