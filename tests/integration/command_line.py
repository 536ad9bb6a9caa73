"""Runs `trivium` as people do: a process with arguments, an environment and an exit code."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from services.ops.supervisor import Suite


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
    """Run the command against a suite; `key` replaces the suite's own."""
    environment = {**os.environ, **suite.environment}
    if key is not None:
        environment["TRIVIUM_API_KEY"] = key
    ran = subprocess.run(
        [sys.executable, "-c", "from trivium_client.cli import main; main()", *arguments],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Ran(ran.returncode, ran.stdout, ran.stderr)
