"""What ended jobs leave: checkpoints of those that failed or were cancelled, for a while and in bounds; nothing else."""

import os
import shutil
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from services.chassis.database import open_database
from services.trainer import checkpoints
from services.trainer.job import Job, Progress, State
from services.trainer.jobs import Jobs
from services.trainer.remains import Remains, Retention
from services.trainer.work import CHECKPOINTS, ORDER, RESULT
from tests.unit.trainer.test_jobs import jobs_in, queued, stored
from tests.unit.trainer.test_runner import moved

DAY_SECONDS = 86400.0


@dataclass(slots=True)
class Disk:
    """The folder of the jobs, with a clock that stands until it is moved."""

    jobs: Jobs
    folder: Path
    now: float = 0.0
    free_bytes: int = 1 << 40
    retention: Retention = field(default_factory=lambda: Retention(DAY_SECONDS, 1 << 30))

    def remains(self) -> Remains:
        """As a trainer that starts has it."""
        return Remains(
            self.jobs,
            self.folder / "jobs",
            self.retention,
            now=lambda: self.now,
            free_bytes=lambda _: self.free_bytes,
        )

    def left(self) -> set[str]:
        """Jobs that have a folder."""
        return set(os.listdir(self.folder / "jobs"))

    async def ended(self, *states: State) -> Job:
        """A job that has ended so, and what its process left."""
        job = await moved(self.jobs, *states)
        self.leave(job)
        return job

    def leave(self, job: Job) -> None:
        """What a process leaves: two checkpoints, an order, a result."""
        folder = self.folder / "jobs" / job.job
        for step in (1, 2):
            lease = checkpoints.lease_folder(folder / CHECKPOINTS, 1)
            checkpoints.write(lease, {"slot.weights": torch.ones(100)}, Progress(step, 2), {})
        (folder / ORDER).write_text("{}")
        (folder / RESULT).mkdir()

    def bytes_of(self, job: Job) -> int:
        """Of its checkpoints."""
        return sum(found.size_bytes for found in checkpoints.kept(self.folder / "jobs" / job.job / CHECKPOINTS))


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    """The verbs over a database with one dataset, and a disk."""
    async with open_database(f"sqlite:///{tmp_path}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        (tmp_path / "jobs").mkdir()
        yield Disk(jobs_in(database), tmp_path)


def end_of(job: Job) -> float:
    assert job.end_time is not None
    return job.end_time.timestamp()


async def test_checkpoints_of_a_failed_and_of_a_cancelled_job_stay_for_a_day_and_nothing_beside_them(
    disk: Disk,
) -> None:
    failed = await disk.ended(State.RUNNING, State.FAILED)
    cancelled = await disk.ended(State.RUNNING, State.CANCELLING, State.CANCELLED)
    done = await disk.ended(State.RUNNING, State.REGISTERING, State.SUCCEEDED)
    going = await disk.ended(State.RUNNING)
    queued_by_nobody = disk.folder / "jobs" / "unknown"
    queued_by_nobody.mkdir()
    remains = disk.remains()
    disk.now = min(end_of(failed), end_of(cancelled)) + DAY_SECONDS - 1
    await remains.clear({going.job})
    assert disk.left() == {failed.job, cancelled.job, going.job}, done.job
    for job in (failed, cancelled):
        assert os.listdir(disk.folder / "jobs" / job.job) == [CHECKPOINTS]
        kept = checkpoints.kept(disk.folder / "jobs" / job.job / CHECKPOINTS)
        assert [found.progress.step for found in kept] == [2, 1]
    disk.now = max(end_of(failed), end_of(cancelled)) + DAY_SECONDS
    await remains.clear({going.job})
    assert disk.left() == {going.job}
    assert (disk.folder / "jobs" / going.job / ORDER).exists()


async def test_a_trainer_that_starts_later_counts_from_the_end_of_the_job(disk: Disk) -> None:
    failed = await disk.ended(State.RUNNING, State.FAILED)
    disk.now = end_of(failed) + DAY_SECONDS / 2
    await disk.remains().clear(set())
    assert disk.left() == {failed.job}
    disk.now = end_of(failed) + DAY_SECONDS
    await disk.remains().clear(set())
    assert disk.left() == set()


async def test_what_is_kept_is_bounded_and_the_oldest_goes_first(disk: Disk) -> None:
    first = await disk.ended(State.RUNNING, State.FAILED)
    size_bytes = disk.bytes_of(first)
    disk.retention = Retention(DAY_SECONDS, 2 * size_bytes + size_bytes // 2)
    remains = disk.remains()
    disk.now = end_of(first)
    second = await disk.ended(State.RUNNING, State.FAILED)
    await remains.clear(set())
    assert disk.left() == {first.job, second.job}
    third = await disk.ended(State.PAUSED, State.CANCELLED)
    await remains.clear(set())
    assert disk.left() == {second.job, third.job}


async def test_what_is_kept_goes_before_a_job_that_trains_finds_the_disk_full(disk: Disk) -> None:
    failed = await disk.ended(State.RUNNING, State.FAILED)
    going = await queued(disk.jobs)
    disk.leave(going)
    remains = disk.remains()
    disk.now = end_of(failed)
    await remains.clear({going.job})
    assert disk.left() == {failed.job, going.job}
    disk.free_bytes = 1 << 20
    await remains.clear({going.job})
    assert disk.left() == {going.job}


async def test_a_failed_job_without_a_checkpoint_leaves_nothing(disk: Disk) -> None:
    failed = await moved(disk.jobs, State.RUNNING, State.FAILED)
    (disk.folder / "jobs" / failed.job / CHECKPOINTS / "lease-00000001" / "tmp-1").mkdir(parents=True)
    disk.now = end_of(failed)
    await disk.remains().clear(set())
    assert disk.left() == set()


class Listed(AbstractContextManager["Listed"]):
    """What a folder held when it was listed, as `os.scandir` gives it."""

    def __init__(self, entries: Iterable[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.parametrize("listed", [False, True], ids=["before it is listed", "once it was listed"])
@pytest.mark.parametrize("vanishing", [CHECKPOINTS, "lease-", "step-"])
async def test_what_a_worker_removes_while_it_is_counted_counts_for_nothing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, vanishing: str, listed: bool
) -> None:
    await disk.ended(State.RUNNING, State.FAILED)
    scan, gone = os.scandir, False

    def scans(path: Any) -> Any:
        nonlocal gone
        if gone or isinstance(path, int) or not Path(path).name.startswith(vanishing):
            return scan(path)
        gone = True
        if not listed:
            shutil.rmtree(path)
            return scan(path)
        with scan(path) as found:
            entries = list(found)
        shutil.rmtree(path)
        return Listed(entries)

    monkeypatch.setattr(os, "scandir", scans)
    await disk.remains().clear(set())
    assert gone
