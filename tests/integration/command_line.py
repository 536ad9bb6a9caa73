"""Runs `trivium` as people do: a process with arguments, an environment and an exit code."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

from services.ops.cache import CHECKOUT
from services.ops.supervisor import Suite

_COMMAND = [sys.executable, "-c", "from trivium_client.cli import main; main()"]
# Training has what the rest of the machine leaves it, which beside another lane of tests is little.
_LIMIT_SECONDS = 480
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.out)


def trivium(suite: Suite, *arguments: str, key: str | None = None, stdin: str = "") -> Ran:
    """Run the command against a suite, in the checkout; `key` replaces the suite's own."""
    environment = {**os.environ, **suite.environment}
    if key is not None:
        environment["TRIVIUM_API_KEY"] = key
    ran = subprocess.run(
        [*_COMMAND, *arguments],
        cwd=CHECKOUT,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_LIMIT_SECONDS,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def on_a_terminal(suite: Suite, *arguments: str) -> tuple[int, str]:
    """Run the command where a person sees all that it prints; its exit code, and what was drawn, frame after frame."""
    master, terminal = pty.openpty()
    environment = {**os.environ, **suite.environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
    running = subprocess.Popen(
        [*_COMMAND, *arguments], cwd=CHECKOUT, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    seen = bytearray()
    # A command that hangs fails its test, and not the whole run.
    limit = threading.Timer(_LIMIT_SECONDS, running.kill)
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
