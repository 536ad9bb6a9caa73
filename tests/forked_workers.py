"""Processes of a trainer that start in tenths of a second: forks of one that has loaded what they load.

Tests that start or kill many would otherwise spend their time on importing torch and transformers.  What runs in a fork
is what `python -m MODULE` runs of the worker that trains many jobs, of the process that trains one, and of those that
check a dataset and make a version of a checkpoint; only the encoding process is not started for each, as in
`tests.unit.trainer.joint.workers`.  A fork is a child of its trainer, in a session of its own and under a guardian, as
one that the trainer starts itself.  `named` finds those that train: their command line is that of the process they came
from.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from services.chassis import processes
from services.trainer.executors.processes import JOINT, SOLO
from tests.harness.forks import exit_with, place_descriptors

NAME, OTHER_NAME = "trivium-worker", "trivium-child"
_CHECKING = "services.trainer.data.checking_child"
_EXPORTING = "services.trainer.export_child"
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_REQUEST_BYTES = 1 << 20
# Standard input, output and error, and another open file.
_MOST_FILES = 4
# As asyncio has it.
_LINE_BYTES = 1 << 16
_spawn = processes.spawn


def named(processes_: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that are forked workers."""
    found = []
    for process in processes_:
        with suppress(psutil.NoSuchProcess):
            if process.name() == NAME:
                found.append(process)
    return found


class ForkedProcess:
    """A forked process: what the trainer needs of asyncio's Process."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter | None, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdin, self.stdout = stdin, stdout
        self.returncode: int | None = None
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        handle = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(handle, self._end, handle)

    def _end(self, handle: int) -> None:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended.set_result(self.returncode)

    async def wait(self) -> int:
        """The exit status, negative for a signal."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send a signal.  Raises ProcessLookupError."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Mother:
    """A fork of this process, made before it has threads, from which others are forked.  They become ours."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        trainer = os.getpid()
        # The forks' parent ends at once, so that we inherit them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if not os.fork():
            ours.close()
            processes.die_with_parent(trainer)
            _serve(theirs, trainer)
        theirs.close()
        self._socket = ours
        self._turn = threading.Lock()

    def fork(self, command: Sequence[str], env: Mapping[str, str], files: Mapping[int, int]) -> int:
        """Fork a process that has these files under those numbers; its process id."""
        request = {"command": list(command), "env": dict(env), "numbers": list(files)}
        with self._turn:
            socket.send_fds(self._socket, [json.dumps(request).encode()], list(files.values()))
            return int(self._socket.recv(64))

    async def spawn(self, command: Sequence[str | Path], **options: Any) -> processes.Child:
        """As `processes.spawn`; what trains, checks datasets or makes versions is forked."""
        if str(command[2]) not in _RUNS:
            return await _spawn(command, **options)
        # They have one of the two: a pipe for commands, or a file or nothing to read.
        told = options["stdin"] == asyncio.subprocess.PIPE
        nothing = os.open(os.devnull, os.O_RDWR)
        commands, write_end = os.pipe() if told else (nothing, -1)
        read_end, lines = os.pipe()
        files = {0: commands if told else _number(options["stdin"], nothing), 1: lines}
        files[2] = _number(options["stderr"], nothing)
        files |= {number: number for number in options.get("pass_fds", ())}
        pid = self.fork([str(word) for word in command[2:]], options.get("env", os.environ), files)
        for file in {commands, lines, nothing}:
            os.close(file)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=options.get("limit", _LINE_BYTES))
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0))
        process: Any = ForkedProcess(pid, await _writer(write_end) if told else None, reader)
        guarded = options.get("guarded", True)
        return processes.Child(process, await processes._guard(pid) if guarded else None)


def _number(file: Any, nothing: int) -> int:
    """The descriptor of a stream as asyncio's subprocess takes one."""
    return nothing if file == asyncio.subprocess.DEVNULL else int(file.fileno())


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(descriptor, "wb", 0)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _serve(peer: socket.socket, trainer: int) -> None:
    """Fork on request, until the trainer ends."""
    while True:
        text, files, _, _ = socket.recv_fds(peer, _REQUEST_BYTES, _MOST_FILES)
        if not text:
            os._exit(0)
        between = os.fork()
        if not between:
            between = os.getpid()
            if pid := os.fork():
                peer.send(str(pid).encode())
                os._exit(0)
            peer.close()
            exit_with(partial(_work, json.loads(text), files, between, trainer))
        os.waitpid(between, 0)
        for file in files:
            os.close(file)


def adopted(between: int, trainer: int) -> bool:
    """Wait until the one between has ended; whether the trainer is the parent then, and was not killed meanwhile.

    The kernel's signal at a parent's death follows the parent that there is when it is asked for.
    """
    while (parent := os.getppid()) == between:
        os.sched_yield()
    return parent == trainer


def _work(request: dict[str, Any], files: list[int], between: int, trainer: int) -> int:
    os.setsid()
    if not adopted(between, trainer):
        return 1
    processes.die_with_parent(trainer)
    place_descriptors(request["numbers"], files)
    os.environ.clear()
    os.environ.update(request["env"])
    module, *arguments = request["command"]
    ctypes.CDLL(None).prctl(_PR_SET_NAME, (NAME if module in (JOINT, SOLO) else OTHER_NAME).encode(), 0, 0, 0)
    return _RUNS[module](*arguments)


def _together(folder: str) -> int:
    """As the `main` of `joint.worker`."""
    from services.trainer.joint.worker import end_with_threads, run
    from services.trainer.work import WorkerOrder

    os.chdir(folder)
    end_with_threads()
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    run(Path(folder), os.fdopen(0, "rb"), lines, encoder=_encoder(WorkerOrder.read(Path(folder)).base_folder))
    return 0


def _alone(folder: str) -> int:
    """As the `main` of `child`."""
    from services.trainer.child import main
    from services.trainer.work import Work

    os.chdir(folder)
    return main(Path(folder), encoder=_encoder(Work.read(Path(folder)).base_folder))


def _encoder(base_folder: str) -> Any:
    from services.trainer.data.examples import ChatEncoder
    from tests.unit.trainer.joint.workers import InProcess

    return InProcess(ChatEncoder.load(Path(base_folder)))


def _checks(base_folder: str, order: str) -> int:
    """As the `main` of `checking_child`."""
    from services.trainer.data.checker import _give_way
    from services.trainer.data.checking_child import main

    _give_way()
    sys.stdin = os.fdopen(0, closefd=False)
    return main(Path(base_folder), json.loads(order))


def _exports(folder: str, base_folder: str) -> int:
    """As the `main` of `export_child`."""
    from services.trainer.export_child import main

    return main(Path(folder), Path(base_folder))


_RUNS: Mapping[str, Callable[..., int]] = {
    JOINT: _together,
    SOLO: _alone,
    _CHECKING: _checks,
    _EXPORTING: _exports,
}
