"""Children end with their parent, however it ends, and so do the children's children."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import uvloop

from services.chassis.processes import ask, say, spawn
from tests.harness.timeouts import HANG_SECONDS

ROOT = Path(__file__).resolve().parents[3]
# A child that starts a grandchild, tells its number and waits; the grandchild waits too.
FAMILY = "sleep 600 & echo $!; wait"
# A child without children: the kernel's signal alone must reach it.
ALONE = "echo 0; exec sleep 600"
PARENT = textwrap.dedent(
    """
    import asyncio, sys
    from services.chassis.processes import spawn

    async def main():
        guarded = "alone" not in sys.argv
        child = await spawn(["/bin/sh", "-c", sys.argv[1]], stdout=asyncio.subprocess.PIPE, guarded=guarded)
        started = int(await child.process.stdout.readline())
        print(child.pid, *([started, child.guardian.pid] if guarded else []), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
    """
)


def gone(pids: list[int]) -> bool:
    """Wait until none of the processes lives."""
    found = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    _, alive = psutil.wait_procs(found, timeout=HANG_SECONDS)
    return not any(map(lives, alive))


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended, as far as its parent may know."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


@pytest.mark.parametrize(("command", "how", "members"), [(FAMILY, "guarded", 3), (ALONE, "alone", 1)])
def test_nothing_survives_kill_9_of_the_parent(command: str, how: str, members: int) -> None:
    arguments = [sys.executable, "-c", PARENT, command, how]
    parent = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    family = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(family) == members
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert gone(family)


async def test_stopping_a_child_stops_what_it_started() -> None:
    child = await spawn(["/bin/sh", "-c", FAMILY], stdout=asyncio.subprocess.PIPE)
    assert child.process.stdout is not None
    grandchild = int(await child.process.stdout.readline())
    assert await child.stop(grace_seconds=5) == -signal.SIGTERM
    assert child.guardian is not None
    assert await asyncio.to_thread(gone, [child.pid, grandchild, child.guardian.pid])


async def test_a_child_that_is_stopped_has_what_it_started_until_it_has_ended() -> None:
    drains = "sleep 600 & trap 'sleep 0.3; kill -0 $! && echo still there; exit 0' TERM; echo $!; while :; do sleep 0.05; done"
    child = await spawn(["/bin/sh", "-c", drains], stdout=asyncio.subprocess.PIPE)
    assert child.process.stdout is not None
    grandchild = int(await child.process.stdout.readline())
    assert await child.stop(grace_seconds=5) == 0
    assert await child.process.stdout.readline() == b"still there\n"
    assert await asyncio.to_thread(gone, [grandchild])


async def test_a_child_that_ignores_sigterm_is_killed() -> None:
    child = await spawn(
        ["/bin/sh", "-c", 'trap "" TERM; echo x; while :; do sleep 600; done'], stdout=asyncio.subprocess.PIPE
    )
    assert child.process.stdout is not None
    await child.process.stdout.readline()
    assert await child.stop(grace_seconds=0.2) == -signal.SIGKILL


async def test_waiting_tells_the_exit_status_and_clears_up() -> None:
    child = await spawn(["/bin/sh", "-c", "sleep 600 & exit 3"])
    assert await child.wait() == 3
    assert child.guardian is not None
    assert await asyncio.to_thread(gone, [child.guardian.pid])


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_has_ended_is_told_nothing_and_who_tells_it_hears_so(
    run: Callable[[Coroutine[None, None, None]], None],
) -> None:
    async def told() -> None:
        child = await spawn(["/bin/cat"], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        assert child.process.stdout is not None
        say(child.process, b"heard\n")
        assert await child.process.stdout.readline() == b"heard\n"
        await child.kill()
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                say(child.process, b"not heard\n")

    run(told())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_question_is_answered_in_full_and_by_what_has_ended_with_nothing(
    run: Callable[[Coroutine[None, None, None]], None],
) -> None:
    async def asked() -> None:
        question = b"x" * 4_000_000
        for command, answer in ((["/bin/cat"], question), (["/bin/true"], b"")):
            child = await spawn(command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
            if not answer:
                await child.process.wait()
            assert await ask(child.process, question) == answer
            assert await child.wait() == 0

    run(asked())
