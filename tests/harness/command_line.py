"""Runs the `trivium` command: in this process where only its text and its exit code matter, else as people do.

A process takes half a second of processor time to import what `trivium` consists of.  :func:`run_in_process` calls the same
entry point with the given arguments, environment and standard streams, and returns what it prints and its exit code.  Each
group of tests runs at least one command with :func:`run_process`, which also checks that the process ends within a limit.
A command that follows a job runs as a process too, so that one that hangs fails its test and not the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

_CHECKOUT = Path(__file__).resolve().parents[2]
_COMMAND = [sys.executable, "-c", "from trivium_client.cli import main; main()"]
# Training has what the rest of the machine leaves it, which beside another lane of tests is little.
LIMIT_SECONDS = 480.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
# Standard streams, environment and working folder are those of the whole process: one command at a time has them.
_TURN = threading.Lock()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


def run_in_process(
    *arguments: str, environment: Mapping[str, str] | None = None, stdin: str = "", cwd: Path = _CHECKOUT
) -> Ran:
    """Run a command in this process; ``environment`` is added to this process' own.

    No stream is a terminal.  Commands of several threads wait for one another: use :func:`run_process` for those that have
    to run at the same time.
    """
    module = _entry_module()
    with _TURN, _streams(stdin) as (out, err), _changed(arguments, environment or {}, cwd):
        code = _exit_code(module)
        out.flush()
        err.flush()
        return Ran(code, _text(out), _text(err))


def run_process(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    cwd: Path = _CHECKOUT,
    limit_seconds: float = LIMIT_SECONDS,
) -> Ran:
    """Run a command in a new process.  Raises TimeoutExpired."""
    ran = subprocess.run(
        [*_COMMAND, *arguments],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=limit_seconds,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def run_on_terminal(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path = _CHECKOUT,
    limit_seconds: float = LIMIT_SECONDS,
) -> tuple[int, str]:
    """Run a command on a terminal of 80 columns; its exit code, and what was drawn, frame after frame."""
    master, terminal = pty.openpty()
    variables = {**os.environ, **(environment or {}), "TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    running = subprocess.Popen(
        [*_COMMAND, *arguments], cwd=cwd, env=variables, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = bytearray()
    # A command that hangs fails its test, and not the whole run.
    limit = threading.Timer(limit_seconds, running.kill)
    limit.start()
    try:
        # The terminal hangs up when the command has ended.
        with contextlib.suppress(OSError):
            while piece := os.read(master, 65536):
                seen += piece
        return running.wait(), _CONTROL.sub("", seen.decode())
    finally:
        limit.cancel()
        running.kill()
        running.wait()
        os.close(master)


@cache
def _entry_module() -> ModuleType:
    """Return the module of ``main``, whose extensions are joined: each call of ``main`` would join them once more."""
    # The package exports the function of the same name.
    module = import_module("trivium_client.cli.main")
    vars(module)["_join_extensions"]()
    return module


def _exit_code(module: ModuleType) -> int:
    """Run ``main`` and return what the process would end with."""
    try:
        with mock.patch.object(module, "_join_extensions"):
            module.main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return int(ended.code or 0)
        sys.stderr.write(f"{ended.code}\n")
        return 1
    except Exception:  # noqa: BLE001 - an interpreter prints an uncaught exception, too
        traceback.print_exc()
        return 1
    return 0


@contextlib.contextmanager
def _streams(stdin: str) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Replace the standard streams by ones in memory, encoded as in a pipe."""
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n") for _ in range(2))
    with mock.patch.multiple(sys, stdin=given, stdout=out, stderr=err):
        yield out, err


@contextlib.contextmanager
def _changed(arguments: tuple[str, ...], environment: Mapping[str, str], cwd: Path) -> Iterator[None]:
    """Set arguments, environment and working folder for the block."""
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch.object(sys, "argv", ["trivium", *arguments]),
        contextlib.chdir(cwd),
    ):
        yield


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()
