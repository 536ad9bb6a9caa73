"""Services, and functions of the tests, that start in tenths of a second or less: forks of a process that has loaded them.

A test that kills a service a hundred times would otherwise spend its time on importing the same modules.  What runs in a
fork is the service as ``python -m services.NAME`` runs it, with the environment, the folder and the output that it is
given; or one function.

Invariant: the process that is forked from has one thread of Python and no channel, event loop or thread pool of a library.
It only imports, a service's own modules when the service is first started, so that a run pays for what it uses; and it
calls what tests have it prepare for all forks, which leaves no threads behind.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from services.chassis.processes import die_with_parent
from tests.harness.forks import exit_with, place_descriptors

# The modules of one of these take a second and 100 MB to load; the services share most of them.
SERVICES = ("access", "registry", "files", "gateway", "retriever", "trainer")
# Loaded by the services only once they run.
_LATER = ("alembic.runtime.environment", "alembic.script", "psycopg", "sqlalchemy.dialects.sqlite", "uvloop")
# Loaded by a trainer's workers, which take seconds for it.
LOADED_BY_WORKERS = (
    "tests.loaded_by_solo_jobs",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "peft",
    "services.trainer.joint.composition",
    "services.trainer.joint.worker",
    "services.trainer.data.checking_child",
)
# Loaded by the embedder, which takes seconds and a gigabyte for it.
LOADED_BY_EMBEDDER = (
    "services.embedder.__main__",
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
    "services.embedder.ragged",
)
_MOTHER = "import sys; from tests.zygote import serve; serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])"
_REQUEST_BYTES = 1 << 20
# The environment at import.  A fixture may change it before a zygote starts, and libraries keep what they read.
_ENVIRONMENT = dict(os.environ)


class Forked:
    """A running fork: what the tests need of :class:`subprocess.Popen`."""

    def __init__(self, mother: "Zygote", pid: int, handle: int) -> None:
        self._mother = mother
        self.pid = pid
        # Holds on to this process: its number may be another's later.
        self._handle = handle
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        """Wait for the end; its status.  Raises TimeoutExpired."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return status

    def _ended(self, seconds: float) -> int | None:
        if self.returncode is None and select.select([self._handle], [], [], seconds)[0]:
            self.returncode = int(self._mother.ask({"wait": self.pid})[0]["status"])
            os.close(self._handle)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

    def released(self) -> int:
        """Release the descriptor that becomes readable when the process ends; the caller closes it."""
        handle, self._handle = self._handle, -1
        return handle

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Zygote:
    """The process that is forked from.  It ends with the run, and its forks with it."""

    def __init__(self, modules: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Load ``modules`` beforehand, under ``environment``: some libraries read it when they are loaded, and only then."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-c", _MOTHER, str(theirs.fileno()), str(os.getpid()), *_LATER, *modules]
        root = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env=_ENVIRONMENT | dict(environment or {}),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours
        self._turn = threading.Lock()
        atexit.register(self.close)

    def close(self) -> None:
        """End it, and with it its forks."""
        self._socket.close()
        self._process.wait(30)

    def start(
        self,
        name: str,
        *,
        env: Mapping[str, str],
        cwd: Path | str = "",
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        prelude: str = "",
    ) -> Forked:
        """Start a service; ``prelude`` names a module of the tests that is imported before it."""
        given = {number: file.fileno() for number, file in ((1, stdout), (2, stderr)) if file is not None}
        request = {"name": name, "env": dict(env), "cwd": str(cwd or os.getcwd()), "prelude": prelude}
        return self._forked(request, given)

    def prepare(self, function: str, *arguments: Any) -> None:
        """Call a function, ``module:name``, in the process that is forked from, for all later forks."""
        self.ask({"prepare": function, "arguments": arguments})

    def call(self, function: str, *arguments: Any, files: Mapping[int, int] | None = None) -> Forked:
        """Call a function, ``module:name``, in a fork that has these descriptors under those numbers."""
        return self._forked({"call": function, "arguments": arguments}, files or {})

    def _forked(self, request: Mapping[str, Any], files: Mapping[int, int]) -> Forked:
        answer, handle = self.ask({**request, "numbers": list(files)}, *files.values())
        return Forked(self, int(answer["pid"]), handle)

    def ask(self, request: Mapping[str, Any], *files: int) -> tuple[dict[str, Any], int]:
        """One request, one answer; the descriptor of a new fork, otherwise -1."""
        with self._turn:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            text, handles, _, _ = socket.recv_fds(self._socket, _REQUEST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            assert text, "the process that is forked from has ended"
            return json.loads(text), (*handles, -1)[0]


def serve(connection: int, parent: int, modules: Sequence[str]) -> None:
    """Load the modules and fork on request, until the other end closes."""
    die_with_parent(parent)
    _load(*modules)
    # Children are reaped as they end, so that a caller never finds a zombie.
    ended: dict[int, int] = {}
    signal.signal(signal.SIGCHLD, lambda *_: _wait_for_all(ended))
    peer = socket.socket(fileno=connection)
    while True:
        text, files, _, _ = socket.recv_fds(peer, _REQUEST_BYTES, 2)
        if not text:
            return
        request = json.loads(text)
        if "wait" in request:
            _answer(peer, {"status": _status(request["wait"], ended)})
        elif "prepare" in request:
            _called(request["prepare"], request["arguments"])
            _spare()
            _answer(peer, {})
        else:
            _load(request["call"].partition(":")[0] if "call" in request else f"{package(request['name'])}.__main__")
            pid, handle = _fork(peer, request, files, ended)
            _answer(peer, {"pid": pid}, handle)
            for file in (*files, handle):
                os.close(file)


def _answer(peer: socket.socket, answer: Mapping[str, Any], *files: int) -> None:
    socket.send_fds(peer, [json.dumps(answer).encode()], files)


def _wait_for_all(ended: dict[int, int]) -> None:
    """Note how each of the forks that have ended did so."""
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])


def _status(pid: int, ended: dict[int, int]) -> int:
    """Return how a fork ended, or will have ended."""
    # Either this or the handler of the signal gets it from the system.
    with suppress(ChildProcessError):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return ended.pop(pid)


def package(service: str) -> str:
    """Return the package that ``python -m`` runs as a service."""
    return service if service == "gateway" else f"services.{service}"


def _load(*modules: str) -> None:
    """Import what is not there yet, and spare the forks' collector from visiting it: that would copy its pages."""
    missing = [module for module in modules if module not in sys.modules]
    for module in missing:
        import_module(module)
    if missing:
        _spare()


def _spare() -> None:
    gc.collect()
    gc.freeze()


def _fork(peer: socket.socket, request: Mapping[str, Any], files: list[int], ended: dict[int, int]) -> tuple[int, int]:
    """Fork a process that does what is asked; its number, and a descriptor that stays its own."""
    mother = os.getpid()
    # The process id may have belonged to an earlier fork that no caller waited for.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    pid = os.fork()
    if not pid:
        exit_with(lambda: _work(peer, request, files, mother))
    ended.pop(pid, None)
    handle = os.pidfd_open(pid)  # before anybody waits for it: its number is its own until then
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    return pid, handle


def _work(peer: socket.socket, request: Mapping[str, Any], files: list[int], mother: int) -> int | None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    die_with_parent(mother)
    peer.close()
    place_descriptors(request["numbers"], files)
    if "call" in request:
        return _called(request["call"], request["arguments"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    if request["prelude"]:
        import_module(request["prelude"])
    _run(package(request["name"]))
    return None


def _called(function: str, arguments: Sequence[Any]) -> int | None:
    module, _, name = function.partition(":")
    status: int | None = getattr(import_module(module), name)(*arguments)
    return status


def _run(module: str) -> None:
    """Run a package as ``python -m`` does, until the threads that it leaves behind have ended."""
    # Loaded to have its imports loaded; what runs is a fresh one.
    main = sys.modules.pop(f"{module}.__main__", None)
    sys.argv = [str(getattr(main, "__file__", module))]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # The interpreter waits for them before it ends; one that stays is a service that does not end.
        threading._shutdown()  # type: ignore[attr-defined]  # as `multiprocessing` does in its forks
