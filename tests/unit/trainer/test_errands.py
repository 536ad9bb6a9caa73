"""Errands of jobs: run once each, whatever whoever asks for them knows."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.logs import logger
from services.trainer.errands import Errands
from services.trainer.job import Job, State
from services.trainer.work import RESULT
from tests.unit.trainer.scripted import Bases
from tests.unit.trainer.test_jobs import jobs_in, stored
from tests.unit.trainer.test_runner import moved


class Registry:
    """Counts what is published."""

    def __init__(self) -> None:
        self.published: list[str] = []

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        self.published.append(job.job)
        return f"sha256:{len(self.published)}"


async def nothing(job: Job) -> Mapping[str, object]:
    return {}


@pytest.mark.parametrize("looks", [1, 3])
async def test_a_job_that_was_registered_since_somebody_looked_is_not_registered_again(
    tmp_path: Path, looks: int
) -> None:
    async with open_database(f"sqlite:///{tmp_path}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        jobs, registry = jobs_in(database), Registry()
        job = await moved(jobs, State.RUNNING, State.REGISTERING)
        (tmp_path / job.job / RESULT).mkdir(parents=True)
        done = asyncio.Event()
        errands = Errands(
            jobs,
            registry,
            Bases(),
            folder=tmp_path,
            lineage=nothing,
            pause_after=lambda tries: 0.01,
            done=done.set,
            log=logger("trainer"),
        )
        async with asyncio.TaskGroup() as group, errands.running(group):
            for _ in range(looks):
                done.clear()
                # As it was found before the first of them was done.
                errands.see([job], {})
                errands.see([job], {})
                await done.wait()
        assert registry.published == [job.job]
        found = await jobs.get("acme", job.job)
        assert (found.state, found.version) == (State.SUCCEEDED, "sha256:1")
