"""How a training process of this machine is put to rest, woken, and told things: on a real one that does nothing else."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvloop

from services.chassis.logs import logger
from services.trainer.executors import local
from services.trainer.executors.executor import Lost, News, Training
from services.trainer.executors.local import LocalExecutor, Machine
from services.trainer.executors.processes import Running
from services.trainer.reports import Report
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.state import Group, Priority
from services.trainer.settings import Settings
from services.trainer.work import Do, Said, Work
from tests.harness.timeouts import HANG_SECONDS
from tests.stack import eventually
from tests.unit.trainer.ticking import JOB

GROUP = Group("sha256:base", "bfloat16", 1)


def executor_in(folder: Path) -> LocalExecutor:
    machine = Machine("here", "us", memory_bytes=1 << 30, cores=1, stop_seconds=5.0, idle_seconds=1.0)
    return LocalExecutor(folder, machine, logger("trainer"))


def training_in(folder: Path, group: Group | None, **fields: Any) -> Training:
    """A job alone, or of a group."""
    work = Work("base", "tiny", "rows", Settings(), threads=1, data_dir=str(folder))
    job = folder / JOB
    job.mkdir(exist_ok=True)
    return Training(tenant="acme", job=JOB, epoch=1, folder=job, work=work, group=group, nodes=("here",), **fields)


class Ticking:
    """An executor with one real process, which says a step every hundredth of a second while it computes."""

    def __init__(self, executor: LocalExecutor, training: Training) -> None:
        self.executor = executor
        self.training = training
        # Said, and not looked at yet: several things may be heard at once.
        self._heard: deque[News] = deque()

    @property
    def running(self) -> Running:
        return self.executor._running[self.training.process]

    def rests(self) -> bool:
        """Whether the system has stopped the process."""
        return psutil.Process(self.running.child.pid).status() == psutil.STATUS_STOPPED

    async def until(self, holds: Callable[[Report], bool]) -> Report:
        """Wait until it says something."""
        async with asyncio.timeout(HANG_SECONDS):
            while True:
                while self._heard:
                    news = self._heard.popleft()
                    if isinstance(news, Report) and holds(news):
                        return news
                self._heard.extend(await self.executor.news())

    async def steps(self) -> None:
        """Wait until it takes one, whatever was heard before."""
        self._heard.clear()
        await self.until(lambda report: report.line.said is Said.STEP)


@asynccontextmanager
async def ticking(
    folder: Path, monkeypatch: pytest.MonkeyPatch, group: Group | None, **fields: Any
) -> AsyncIterator[Ticking]:
    """The executor at work with its process, which rests yet."""
    for kind in ("SOLO", "JOINT"):
        monkeypatch.setattr(local, kind, "tests.unit.trainer.ticking")
    executor, training = executor_in(folder), training_in(folder, group, **fields)
    async with executor.at_work():
        await executor.start(training)
        yield Ticking(executor, training)


@pytest.mark.parametrize("group", [None, GROUP], ids=["alone", "of a group"])
async def test_a_process_that_is_to_rest_is_stopped_by_the_system_and_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: Group | None
) -> None:
    async with ticking(tmp_path, monkeypatch, group) as it:
        await asyncio.to_thread(eventually, it.rests, "it rests until it is told to compute")
        for _ in range(2):
            await it.executor.go(it.training.process)
            await it.steps()
            assert not it.rests()
            assert [turn.computing for turn in it.executor.turns()] == [True]
            await it.executor.hold(it.training.process)
            # Before the executor charges them.
            assert it.running.computed_seconds() > 0.0
            await asyncio.to_thread(eventually, it.rests, "it rests")
            assert [turn.computing for turn in it.executor.turns()] == [False]
            assert it.running.computed_seconds() == 0.0, "what rests is charged nothing"


@pytest.mark.parametrize("group", [None, GROUP], ids=["alone", "of a group"])
async def test_a_job_that_must_leave_wakes_its_process_which_does_not_rest_until_it_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: Group | None
) -> None:
    async with ticking(tmp_path, monkeypatch, group) as it:
        running = it.running
        await it.executor.go(it.training.process)
        await it.steps()
        await it.executor.hold(it.training.process)
        await asyncio.to_thread(eventually, it.rests, "it rests")
        await it.executor.stop(JOB)
        await it.executor.hold(it.training.process)
        assert running.computing
        if group is None:
            await it.until(lambda report: report.line.said is Said.STOPPED)
            assert await running.child.wait() == 0
        else:
            told = await it.until(lambda report: report.line.said is Said.MESSAGE and "stop" in report.line.message)
            assert json.loads(told.line.message)["epoch"] == it.training.epoch


# On the loop that services run on: asyncio's own takes what nobody will hear.
def test_a_job_that_joins_a_process_which_has_just_ended_is_lost_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def joined() -> None:
        async with ticking(tmp_path, monkeypatch, GROUP) as it:
            process = it.running.child.process
            assert process.stdin is not None
            # Its end of the pipe is closed before its own end is heard of.
            process.stdin.close()
            await process.stdin.wait_closed()
            process.kill()
            await it.executor.start(replace(it.training, job="joins-late"))
            lost = set[str]()
            async with asyncio.timeout(HANG_SECONDS):
                while len(lost) < 2:
                    lost |= {news.job for news in await it.executor.news() if isinstance(news, Lost)}
            assert lost == {JOB, "joins-late"}

    uvloop.run(joined())


async def test_a_group_hears_of_each_job_its_class_and_deadline_and_what_tenants_are_worth_and_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ticking(tmp_path, monkeypatch, GROUP, priority=Priority.HIGH, deadline=123.0) as it:
        await it.executor.go(it.training.process)
        await it.executor.share({"acme": Share(2.0, 5.0, 700), "other": Share()})
        told = {}
        while Do.SHARES not in told:
            said = await it.until(lambda report: report.line.said is Said.MESSAGE)
            command = json.loads(said.line.message)
            told[command["do"]] = command
    assert (told[Do.JOIN]["priority"], told[Do.JOIN]["deadline"]) == (Priority.HIGH, 123.0)
    assert told[Do.SHARES]["weights"] == {"acme": 2.0, "other": 1.0}
    assert told[Do.SHARES]["usage_seconds"] == {"acme": 5.0, "other": 0.0}
    assert told[Do.SHARES]["tokens_left"] == {"acme": 700}
