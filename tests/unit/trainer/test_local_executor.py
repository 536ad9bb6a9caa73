"""Processes of this machine, as the executor keeps them."""

import asyncio
import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.chassis.logs import logger
from services.chassis.processes import spawn
from services.trainer.executors import local
from services.trainer.executors.executor import News, Training
from services.trainer.executors.local import LocalExecutor, Machine
from services.trainer.executors.processes import Running
from services.trainer.reports import Report
from services.trainer.settings import Settings
from services.trainer.work import Line, Said, Work
from tests.harness.timeouts import HANG_SECONDS

# Says that it has stopped, and takes for ever to end.
_LINGERS = f"import signal; print({Line(Said.STOPPED).encode().decode()!r}, end='', flush=True); signal.pause()"


class Lingering:
    """Starts processes that linger."""

    def __init__(self) -> None:
        self.started: list[Running] = []

    async def __call__(self, *_: Any, **__: Any) -> Running:
        child = await spawn(
            [sys.executable, "-c", _LINGERS],
            own_session=True,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        self.started.append(Running(child, command_line=False))
        return self.started[-1]


def executor_in(folder: Path) -> LocalExecutor:
    machine = Machine("here", "us", memory_bytes=1 << 30, cores=1, stop_seconds=1.0, idle_seconds=1.0)
    return LocalExecutor(folder, machine, logger("trainer"))


def solo(folder: Path) -> Training:
    """A job that trains alone."""
    work = Work("base", "tiny", "rows", Settings(), threads=1, data_dir=str(folder))
    return Training(
        tenant="acme", job="alone", epoch=1, folder=folder / "alone", work=work, group=None, nodes=("here",)
    )


async def trained(executor: LocalExecutor, training: Training) -> News:
    """Have it started and computed; return what is heard of it first, beside what it used."""
    await executor.start(training)
    await executor.go(training.process)
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            for heard in await executor.news():
                if not (isinstance(heard, Report) and heard.line.said is Said.USAGE):
                    return heard


async def test_a_job_that_is_started_again_while_its_last_process_ends_has_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, training = Lingering(), solo(tmp_path)
    monkeypatch.setattr(local, "start", processes)
    async with executor_in(tmp_path).at_work() as executor:
        for epoch in (1, 2, 3):
            heard = await trained(executor, replace(training, epoch=epoch))
            assert isinstance(heard, Report)
            assert (heard.epoch, heard.line.said) == (epoch, Said.STOPPED)
        # They were gone before the next one came.
        assert [running.child.process.returncode for running in processes.started] == [-signal.SIGKILL] * 2 + [None]
    assert executor.left() == []


async def test_a_job_whose_process_is_an_earlier_lease_s_has_one_of_its_own_and_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, training = Lingering(), solo(tmp_path)
    monkeypatch.setattr(local, "start", processes)
    async with executor_in(tmp_path).at_work() as executor:
        await executor.start(training)
        heard = await trained(executor, replace(training, epoch=2))
        assert heard.epoch == 2
    assert len(processes.started) == 2
    assert executor.left() == []


async def test_a_process_that_has_let_go_of_its_job_is_not_kept_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes, training = Lingering(), solo(tmp_path)
    monkeypatch.setattr(local, "start", processes)
    async with executor_in(tmp_path).at_work() as executor:
        await trained(executor, training)
        await executor.hold(training.process)
        assert processes.started[0].computing


async def test_of_a_process_that_could_not_be_started_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def starts(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(local, "start", starts)
    executor = executor_in(tmp_path)
    with pytest.raises(OSError, check=lambda error: error.errno == errno.EMFILE):
        await executor.start(solo(tmp_path))
    assert not executor._starting
