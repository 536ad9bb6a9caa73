"""Which code this is: the installed version, and in a checkout its commit as well.

Both stand in what is made and never changed (a version's manifest), so that whoever holds it can find the code again.
"""

import importlib.metadata
import os
import subprocess
from functools import cache
from pathlib import Path

_DISTRIBUTION = "trivium-suite"
_GIT_SECONDS = 10
CHECKOUT = Path(__file__).resolve().parents[2]


@cache
def code_version() -> str:
    """For instance 0.1.0 where it is installed, 0.1.0+g1a2b3c4d5e6f in a checkout, with .dirty when that was changed.

    Read once a process: files that change later are not what runs.
    """
    try:
        installed = importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        installed = "0"
    commit = commit_of(CHECKOUT)
    return f"{installed}+g{commit}" if commit else installed


def commit_of(checkout: Path) -> str:
    """Twelve digits of the commit that a checkout is at, with .dirty when files differ from it; empty for no checkout.

    Empty as well where git is missing or does not trust the folder: then nobody can say.
    """
    if not (checkout / ".git").exists():
        return ""
    # A hook that started us would have git look at its own repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    try:
        asked = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_GIT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
