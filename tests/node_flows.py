"""Programs that use OpenAI's client for Node as it is published, and what they tell."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from services.ops import nodetools

FLOWS = Path(__file__).parent / "integration" / "openai" / "node"


class NodeFlows:
    """The programs in ``folder``, beside the packages that they import, which a checkout does not hold."""

    def __init__(self, folder: Path, url: str, key: str) -> None:
        self._folder = folder
        self._settings = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": key}
        for program in FLOWS.glob("*.mjs"):
            shutil.copy(program, folder)
        (folder / "node_modules").symlink_to(nodetools.installed(FLOWS) / "node_modules")

    def __call__(self, name: str, timeout_seconds: float = 240.0) -> dict[str, Any]:
        """Run one of them, by its name, and return what it told."""
        ran = subprocess.run(
            [str(nodetools.executable("node")), f"{name}.mjs"],
            cwd=self._folder,
            env={**os.environ, **self._settings},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
        assert ran.returncode == 0, ran.stderr
        told: dict[str, Any] = json.loads(ran.stdout)
        return told
