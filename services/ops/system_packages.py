"""The few Debian packages that no Python wheel can replace.

Installed when we are root on a Debian, else named in one command for somebody who
is.  Elsewhere only the names differ, so the message is still of use.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import subprocess
import sys


def missing() -> tuple[list[str], list[str]]:
    """Return the packages lacking for running Trivium, and those for testing it."""
    run = []
    if importlib.util.find_spec("ensurepip") is None:  # Debian splits it off
        run.append("python3-venv")
    if shutil.which("g++") is None:  # the generator compiles its LoRA product for this machine
        run.append("g++")
    test = []
    if shutil.which("git") is None:  # `make lint` compares with the last release
        test.append("git")
    if not glob.glob("/usr/lib/postgresql/*/bin/postgres") and shutil.which("postgres") is None:
        test.append("postgresql")
    if shutil.which("curl") is None:  # what the README does by it is run
        test.append("curl")
    return run, test


# What the stamp of this step is made from.
WANTED = "python3-venv g++ git postgresql curl"


def install() -> None:
    """Install what is missing, or say how.  Stops only for what running needs."""
    run, test = missing()
    lacking = run + test
    if not lacking:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        subprocess.run([*apt, "update"], check=True, env=environment)
        command = [*apt, "install", "-y", "--no-install-recommends", *lacking]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return
    advice = f"sudo apt-get install {' '.join(lacking)}"
    if run:
        sys.exit(f"Trivium needs {', '.join(run)}. Install them and run make setup again:\n  {advice}")
    print(f"  `make test` also needs {', '.join(test)}:  {advice}", flush=True)
