"""Programs that use OpenAI's client for Node as it is published, and what they tell."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.ops import nodetools
from tests import tied

FLOWS = Path(__file__).parent / "integration" / "openai" / "node"


class NodeFlows:
    """The programs in ``folder``, beside the packages that they import, which a checkout does not hold."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        self._folder = folder
        self._settings = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        for program in FLOWS.glob("*.mjs"):
            shutil.copy(program, folder)
        (folder / "node_modules").symlink_to(nodetools.installed(FLOWS) / "node_modules")

    def __call__(
        self, name: str, *arguments: str, when_told: Callable[[], object] | None = None, timeout_seconds: float = 240.0
    ) -> dict[str, Any]:
        """Run one of them, by its name, and return what it told.  ``when_told`` is called at its first word of progress."""
        command = [str(nodetools.executable("node")), f"{name}.mjs", *arguments]
        pipe = subprocess.PIPE
        program = tied.start(command, cwd=self._folder, env={**os.environ, **self._settings}, stdout=pipe, stderr=pipe)
        assert program.stderr is not None
        heard = b""
        try:
            if when_told:
                heard = program.stderr.readline()
                when_told()
            said, complaint = program.communicate(timeout=timeout_seconds)
        finally:
            program.kill()
        assert program.returncode == 0, (heard + complaint).decode()
        told: dict[str, Any] = json.loads(said)
        return told
