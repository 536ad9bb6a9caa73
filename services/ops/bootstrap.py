"""The two tools that nothing else can install: uv, and Go where the machine has none.

Each comes from the Python index as one wheel, its version and hashes pinned in
`bootstrap-NAME.txt`, into an environment of its own in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from services.ops.cache import cache_dir


def bootstrapped(name: str) -> Path:
    """Return the executable NAME, installing it on first use.

    The folder carries the digest of the pin and a mark once it is complete, so an
    interrupted install is simply begun again.  One process installs at a time.
    """
    pin = Path(__file__).with_name(f"bootstrap-{name}.txt")
    digest = hashlib.sha256(pin.read_bytes()).hexdigest()[:12]
    home = cache_dir() / "bootstrap" / f"{name}-{digest}"
    executable = home / "bin" / name
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install(home, pin)
    return executable


def _install(home: Path, pin: Path) -> None:
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        command += ["--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", str(pin)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        (home / "complete").touch()
