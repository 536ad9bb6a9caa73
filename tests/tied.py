"""Servers that end with the test run, however it ends: nothing of a killed run is left on the machine."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from services.chassis import resources
from services.chassis.processes import die_with_parent
from tests.zygote import LOADED_BY_EMBEDDER, LOADED_BY_WORKERS, SERVICES, Forked, Zygote, package

# Set by pytest, also for what a test starts.
_IN_TEST = "PYTEST_VERSION"
_SERVICE = """
import importlib
import runpy
from services.chassis.processes import die_with_parent

die_with_parent({parent})
importlib.import_module("{prelude}")
runpy.run_module("{module}", run_name="__main__", alter_sys=True)
"""


def start(
    command: Sequence[str | Path], *, last: signal.Signals = signal.SIGKILL, **options: Any
) -> "subprocess.Popen[bytes]":
    """Start a server that gets the signal ``last`` when this process dies.

    ``options`` are those of Popen.  The kernel's signal follows the thread that starts a child,
    so this must be the main one.
    """
    parent = _parent()

    def in_child() -> None:
        die_with_parent(parent, last)

    # A wrapper program could not: changing the user takes back what the kernel was asked.
    return subprocess.Popen(command, preexec_fn=in_child, **options)  # noqa: PLW1509  # it waits for no thread


def start_service(name: str, *, prelude: str = "", **options: Any) -> "subprocess.Popen[bytes] | Forked":
    """Start one of ours, as ``python -m services.NAME``, likewise; it asks the kernel by itself.

    In a test all but the generator are forked from a process that has loaded them; what a benchmark measures is a
    process as users have it.  ``prelude`` is a module of the tests that is imported first.
    """
    if _IN_TEST in os.environ and name in (*SERVICES, "embedder"):
        mother = _zygote_of_embedders() if name == "embedder" else _zygote()
        return mother.start(name, prelude=prelude, **options)
    program = _SERVICE.format(parent=_parent(), module=package(name), prelude=prelude or "runpy")
    return subprocess.Popen([sys.executable, "-c", program], **options)


def start_forking_trainer(**options: Any) -> Forked:
    """Start a trainer whose workers are forks, too, and all of them of one process: `tests.forked_workers`."""
    return _zygote_of_trainers().start("trainer", prelude="tests.forking_trainer", **options)


def call_in_fork_of_trainers(function: str, *arguments: Any, files: Mapping[int, int]) -> Forked:
    """Call a function, ``module:name``, in a fork of the process that has loaded what a trainer and its workers load."""
    return _zygote_of_trainers().call(function, *arguments, files=files)


@lru_cache(maxsize=1)
def _zygote() -> Zygote:
    _parent()
    return Zygote()


@lru_cache(maxsize=1)
def _zygote_of_trainers() -> Zygote:
    _parent()
    # Threads that spin while they wait take the processor from the thread they wait for; libgomp reads this when it is loaded.
    return Zygote(LOADED_BY_WORKERS, {"GOMP_SPINCOUNT": "0"})


@lru_cache(maxsize=1)
def _zygote_of_embedders() -> Zygote:
    """The process in which torch is loaded as the embedder would load it: OpenMP reads its settings only then."""
    _parent()
    return Zygote(LOADED_BY_EMBEDDER, resources.shares()[resources.Role.EMBEDDER].environment())


def _parent() -> int:
    assert threading.current_thread() is threading.main_thread(), "a server would end with the thread that starts it"
    return os.getpid()
