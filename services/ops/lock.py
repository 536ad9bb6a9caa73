"""Writes requirements.lock: one resolution of every extra and of the Python client.

The lock holds names, versions and hashes, and no address: whoever installs chooses
where from.  Pins that still fit are kept; `--upgrade` looks for newer ones.
"""

from __future__ import annotations

import subprocess
import sys

from services.ops.bootstrap import bootstrapped
from services.ops.cache import CHECKOUT

COMMAND = [
    "pip",
    "compile",
    "--quiet",
    "--all-extras",
    "--generate-hashes",
    "--no-emit-index-url",
    "--no-header",
    "--python-version=3.11",
    "--override=services/ops/lock-overrides.txt",
    "--output-file=requirements.lock",
    "pyproject.toml",
    "clients/python/pyproject.toml",
]


def main() -> None:
    """Resolve; arguments such as --upgrade go to uv unchanged."""
    command = [str(bootstrapped("uv")), *COMMAND, *sys.argv[1:]]
    subprocess.run(command, check=True, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
    print("requirements.lock is up to date; `make setup` installs it")


if __name__ == "__main__":
    main()
