"""Services that start in tenths of a second: forks of one process that has loaded their code and run none of it.

A test that kills a service a hundred times would otherwise spend its time on importing the
same modules.  What runs in a fork is the service as ``python -m services.NAME`` runs it,
with the environment, the folder and the output that it is given.

Invariant: the process that is forked from has one thread of Python and no channel, event loop or thread pool of a
library.  It only imports; a service's own modules when the service is first started, so that a run pays for what it uses.
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
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from services.chassis.processes import die_with_parent

# What is loaded for one of these takes a second and 100 MB; most of it is loaded for the others as well.
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


class Forked:
    """A running fork: what the tests need of :class:`subprocess.Popen`."""

    def __init__(self, mother: "Zygote", pid: int) -> None:
        self._mother = mother
        self.pid = pid
        # Holds on to this process: its number may be another's later.
        self._handle = os.pidfd_open(pid)
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
            self.returncode = int(self._mother.ask({"wait": self.pid})["status"])
            os.close(self._handle)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._handle, number)

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
            env=os.environ | dict(environment or {}),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours
        self._turn = threading.Lock()
        atexit.register(self._end)

    def _end(self) -> None:
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
        return Forked(self, int(self.ask(request | {"outputs": list(given)}, *given.values())["pid"]))

    def ask(self, request: Mapping[str, Any], *files: int) -> dict[str, Any]:
        """One request, one answer."""
        with self._turn:
            socket.send_fds(self._socket, [json.dumps(request).encode()], files)
            answer: dict[str, Any] = json.loads(self._socket.recv(_REQUEST_BYTES))
            return answer


def serve(connection: int, parent: int, modules: Sequence[str]) -> None:
    """Load the modules and fork on request, until the other end closes."""
    die_with_parent(parent)
    _load(*modules)
    # Waited for as they end, so that nobody who looks for one finds what is left of it.
    ended: dict[int, int] = {}
    signal.signal(signal.SIGCHLD, lambda *_: _wait_for_all(ended))
    peer = socket.socket(fileno=connection)
    while True:
        text, files, _, _ = socket.recv_fds(peer, _REQUEST_BYTES, 2)
        if not text:
            return
        request = json.loads(text)
        if "wait" in request:
            answer = {"status": _status(request["wait"], ended)}
        else:
            _load(f"{package(request['name'])}.__main__")
            answer = {"pid": _fork(peer, request, files, ended)}
            for file in files:
                os.close(file)
        peer.send(json.dumps(answer).encode())


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
        gc.collect()
        gc.freeze()


def _fork(peer: socket.socket, request: Mapping[str, Any], files: list[int], ended: dict[int, int]) -> int:
    mother = os.getpid()
    # A number may have been that of a fork for whose end nobody asked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    pid = os.fork()
    if pid:
        ended.pop(pid, None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        return pid
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        die_with_parent(mother)
        peer.close()
        for number, file in zip(request["outputs"], files, strict=True):
            os.dup2(file, number)
            os.close(file)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        if request["prelude"]:
            import_module(request["prelude"])
        _run(package(request["name"]))
    except SystemExit as ended:
        status = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # the fork must never return into its mother's loop
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


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
