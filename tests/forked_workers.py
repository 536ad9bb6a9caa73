"""Workers of a trainer that start in tenths of a second: forks of a process that has loaded what they load.

A test that kills workers a hundred times would otherwise spend its time on importing torch.  What runs in a fork is
what `python -m services.trainer.joint.worker FOLDER` runs; only the encoding process is not started for each, as in
`tests.unit.trainer.joint.workers`.  A worker is a child of its trainer, in a session of its own and under a guardian,
as one that the trainer starts itself.  `named` finds them: their command line is that of the process they came from.
"""

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil

from services.chassis import processes

NAME = "trivium-worker"
_JOINT = "services.trainer.joint.worker"
_PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 15, 36
_REQUEST_BYTES = 1 << 20
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
    """A forked worker: what the trainer needs of asyncio's Process."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
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
    """A fork of this process, made before it has threads, from which workers are forked.  They become ours."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        trainer = os.getpid()
        # The workers' parent ends at once, so that we inherit them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        if not os.fork():
            ours.close()
            processes.die_with_parent(trainer)
            _serve(theirs, trainer)
        theirs.close()
        self._socket = ours
        self._turn = threading.Lock()

    def fork(self, folder: Path, env: Mapping[str, str], files: Sequence[int]) -> int:
        """Fork a worker over these files; its process id."""
        with self._turn:
            request = json.dumps({"folder": str(folder), "env": dict(env)}).encode()
            socket.send_fds(self._socket, [request], files)
            return int(self._socket.recv(64))

    async def spawn(self, command: Sequence[str | Path], **options: Any) -> processes.Child:
        """As `processes.spawn`; a worker is forked."""
        if command[2] != _JOINT:
            return await _spawn(command, **options)
        log: IO[bytes] = options["stderr"]
        commands, write_end = os.pipe()
        read_end, lines = os.pipe()
        pid = self.fork(Path(command[3]), options["env"], [commands, lines, log.fileno()])
        for file in (commands, lines):
            os.close(file)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=options["limit"])
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0))
        transport, protocol = await loop.connect_write_pipe(
            asyncio.streams.FlowControlMixin, os.fdopen(write_end, "wb", 0)
        )
        process: Any = ForkedProcess(pid, asyncio.StreamWriter(transport, protocol, None, loop), reader)
        return processes.Child(process, await processes._guard(pid))


def _serve(peer: socket.socket, trainer: int) -> None:
    """Fork on request, until the trainer ends."""
    while True:
        text, files, _, _ = socket.recv_fds(peer, _REQUEST_BYTES, 3)
        if not text:
            os._exit(0)
        between = os.fork()
        if not between:
            between = os.getpid()
            if pid := os.fork():
                peer.send(str(pid).encode())
                os._exit(0)
            peer.close()
            _work(json.loads(text), files, between, trainer)
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


def _work(request: dict[str, Any], files: list[int], between: int, trainer: int) -> None:
    status = 1
    try:
        os.setsid()
        if not adopted(between, trainer):
            os._exit(status)
        processes.die_with_parent(trainer)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.update(request["env"])
        os.chdir(request["folder"])
        _train(Path(request["folder"]))
        status = 0
    except BaseException:  # noqa: BLE001  # the fork must never return into its mother's loop
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _train(folder: Path) -> None:
    """As the worker's `main`."""
    from services.trainer.data.examples import ChatEncoder
    from services.trainer.joint.worker import end_with_threads, run
    from services.trainer.work import WorkerOrder
    from tests.unit.trainer.joint.workers import InProcess

    end_with_threads()
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    encoder = InProcess(ChatEncoder.load(Path(WorkerOrder.read(folder).base_folder)))
    run(folder, os.fdopen(0, "rb"), lines, encoder=encoder)
