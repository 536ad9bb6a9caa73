"""Child processes that never outlive the service that started them, however it ends.

Three nets, because each has a hole: the kernel's parent-death signal reaches the child
itself; the child leads a process group, so stopping it stops what it started; and a
guardian (a shell waiting on a pipe) kills that group when our end of the pipe closes,
which happens at ``kill -9`` too, when no code of ours runs.
"""

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_GUARDIAN = "read _; kill -s KILL -- -$1"


def die_with_parent(parent_pid: int | None = None, last: signal.Signals = signal.SIGKILL) -> None:
    """Ask the kernel to kill this process when its parent dies.  Call first thing in a child.

    ``parent_pid`` closes the race with a parent that died before the call.  ``last`` is the
    signal it gets, for a program that tidies up on another one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, last, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if parent_pid is not None and os.getppid() != parent_pid:
        os._exit(128 + signal.SIGKILL)


@dataclass(slots=True)
class Child:
    """A running child, the leader of its process group."""

    process: asyncio.subprocess.Process
    guardian: asyncio.subprocess.Process | None

    @property
    def pid(self) -> int:
        """Process id, and id of the group."""
        return self.process.pid

    async def wait(self) -> int:
        """The child's exit status; negative is the signal that ended it.

        What the child left behind in its group is killed.
        """
        status = await self.process.wait()
        await self._clear()
        return status

    async def stop(self, grace_seconds: float = 10.0) -> int:
        """SIGTERM to the child, SIGKILL to its group when it has ended or after the grace; returns the exit status.

        What it started is its own to end: a service that drains still needs its engine.
        """
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_seconds):
                await self.process.wait()
        return await self.kill()

    async def kill(self) -> int:
        """SIGKILL to the group; returns the exit status."""
        _signal_group(self.pid, signal.SIGKILL)
        return await self.wait()

    async def _clear(self) -> None:
        _signal_group(self.pid, signal.SIGKILL)
        if self.guardian is not None and self.guardian.returncode is None:
            # Its group is gone: were it to act later, the number could be somebody else's.
            self.guardian.kill()
            await self.guardian.wait()


async def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    prepare: Callable[[], None] | None = None,
    guarded: bool = True,
    own_session: bool = False,
    **streams: Any,
) -> Child:
    """Start a child that ends with us.

    ``env`` replaces the environment when given.  ``prepare`` runs in the child before
    the program (priorities: see ``chassis.resources``); it must not touch locks or the
    event loop.  ``own_session`` sets it apart for the scheduler too: Linux may weigh a
    session as one, and a child that gives way must not take us along.  ``streams`` are
    stdin, stdout and stderr of asyncio's subprocess.  Must be called from the thread that
    lives longest (the main one): the kernel's signal follows the thread.
    """
    parent = os.getpid()

    def in_child() -> None:
        # Either makes it the leader of a group.
        os.setsid() if own_session else os.setpgid(0, 0)
        die_with_parent(parent)
        if prepare is not None:
            prepare()

    # uvloop takes nothing else for it.
    variables = None if env is None else dict(env)
    process = await asyncio.create_subprocess_exec(
        *map(str, command), env=variables, cwd=cwd, preexec_fn=in_child, **streams
    )
    # Also from our side: whichever of the two comes first, the group exists when we go on.
    with suppress(OSError):
        os.setpgid(process.pid, process.pid)
    return Child(process, await _guard(process.pid) if guarded else None)


def say(process: asyncio.subprocess.Process, said: bytes) -> None:
    """Write to a process's standard input, a pipe.  Raises ConnectionResetError where it has ended, or reads no more.

    asyncio says so when the pipe is next drained, uvloop in the write itself, and as a RuntimeError.
    """
    assert process.stdin is not None
    if process.stdin.is_closing():
        raise ConnectionResetError(f"process {process.pid} hears no more")
    process.stdin.write(said)


async def ask(process: asyncio.subprocess.Process, said: bytes) -> bytes:
    """Write all of it to a process's standard input, close that, and read its output until it ends.

    What asyncio's ``communicate`` does; that one, too, raises RuntimeError on uvloop for a process
    that ended before it was told anything.
    """

    async def tell() -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError, ConnectionResetError):
            say(process, said)
            await process.stdin.drain()
        process.stdin.close()

    _, (output, _) = await asyncio.gather(tell(), process.communicate())
    return output


async def _guard(group: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        _GUARDIAN,
        "guardian",
        str(group),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
