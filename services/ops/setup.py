"""`make setup`: from a fresh checkout to an environment in which everything runs.

Runs on the machine's Python and its standard library alone.  Each step leaves a
stamp that names what it was made from, so that an interrupted set-up goes on where
it stopped and a finished one returns at once and needs no network.
"""

# No import from __future__ here: a Python that is too old must get as far as the message.
import sys

if sys.version_info < (3, 11):
    sys.exit(
        "Trivium needs Python 3.11 or newer; this is %d.%d (%s).\n"
        "Install one and name it: make setup PYTHON=python3.11"
        % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.ops import system_packages
from services.ops.bootstrap import bootstrapped
from services.ops.cache import CHECKOUT, venv_dir

LOCK = CHECKOUT / "requirements.lock"
PROJECTS = (CHECKOUT / "pyproject.toml", CHECKOUT / "clients" / "python" / "pyproject.toml")
MODELS = CHECKOUT / "services" / "chassis" / "models"
# What is compiled where it runs, and what compiles it.
NATIVE = (
    CHECKOUT / "services" / "generator" / "plugin" / "rows.cpp",
    CHECKOUT / "services" / "trainer" / "bank" / "adapters.cpp",
    CHECKOUT / "services" / "trainer" / "bank" / "attention.cpp",
)
COMPILING = (
    CHECKOUT / "services" / "chassis" / "native.py",
    CHECKOUT / "services" / "trainer" / "bank" / "lanes.h",
)
LINK = CHECKOUT / ".venv"
# Resolved, so that a set-up started from the environment itself finds what made it.
PYTHON = Path(sys.executable).resolve()
PYTHON_VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"

# The environment takes 8 GB, 1 GB of it bytecode, which uv's cache shares, and the models under 1 GB; the
# archives being unpacked need room beside them.
FREE_BYTES_NEEDED = 13 * 10**9


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the set-up; done again when `made_from` changes."""

    name: str
    made_from: str
    run: Callable[[], None]


def steps() -> list[Step]:
    """Return the set-up in order."""
    lock = _digest(LOCK)
    projects = _digest(*PROJECTS)
    models = _digest(*sorted(MODELS.glob("*.py")), MODELS.with_suffix(".py"))
    return [
        Step("system packages", system_packages.WANTED, system_packages.install),
        Step("environment", f"{PYTHON_VERSION} {lock}", _install_lock),
        Step("this checkout", f"{PYTHON_VERSION} {lock} {projects}", _install_checkout),
        Step("bytecode", f"{PYTHON_VERSION} {lock} of all", _compile_bytecode),
        Step("models", f"{lock} {models}", _prepare_models),
        Step("native code", _digest(*NATIVE, *COMPILING), _compile_native_code),
    ]


def _install_lock() -> None:
    """Make the environment hold what the lock names and nothing else."""
    environment = venv_dir()
    complete = environment / "complete"
    if environment.exists() and not (complete.exists() and complete.read_text() == PYTHON_VERSION):
        # uv takes a package that was written halfway for installed.  What it had
        # downloaded is in its own cache, so beginning anew is quick.
        print("  interrupted, or made by another Python: the environment is made anew", flush=True)
        shutil.rmtree(environment)
    uv = bootstrapped("uv")
    loudness = [] if sys.stderr.isatty() else ["--quiet"]
    _run(uv, "venv", "--quiet", "--allow-existing", "--python", PYTHON, environment)
    complete.unlink(missing_ok=True)
    _run(uv, "pip", "sync", *loudness, "--require-hashes", "--python", environment, LOCK)
    complete.write_text(PYTHON_VERSION)


def _install_checkout() -> None:
    """Install the two distributions as links to the checkout; needs no network."""
    projects = [part for project in PROJECTS for part in ("--editable", project.parent)]
    options = ["--quiet", "--offline", "--no-deps", "--no-build-isolation"]
    _run(bootstrapped("uv"), "pip", "install", *options, "--python", venv_dir(), *projects)


def _compile_bytecode() -> None:
    """Compile what is installed: where PYTHONDONTWRITEBYTECODE is set, every process would compile it anew.

    That was half of an engine's start, whose three processes load some seven thousand modules each.  Not by uv, which
    compiles what it has just installed and no more; a file that does not compile, as templates do, is nobody's fault.
    """
    program = "import compileall, sysconfig; compileall.compile_dir(sysconfig.get_path('purelib'), quiet=2, workers=0)"
    _run(venv_dir() / "bin" / "python", "-c", program)


def _prepare_models() -> None:
    """Unpack the default models into the model cache, so that first use is quick."""
    if MODELS.is_dir() or MODELS.with_suffix(".py").exists():
        _run(venv_dir() / "bin" / "python", "-m", "services.chassis.models")


def _compile_native_code() -> None:
    """Compile what the generator and the trainer would else compile when they first start."""
    _run(venv_dir() / "bin" / "python", "-m", "services.chassis.native", *NATIVE)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=CHECKOUT)


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.exists():
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _require_disk() -> None:
    place = venv_dir()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES_NEEDED:
        sys.exit(
            f"{place} has {free / 1e9:.1f} GB free, and set-up needs "
            f"{FREE_BYTES_NEEDED / 1e9:.0f} GB.\n"
            "Free some, or name a folder on a larger disk: TRIVIUM_CACHE_DIR=/somewhere make setup"
        )


def _link_environment() -> None:
    """Make `.venv` lead to the environment of this checkout."""
    if LINK.is_symlink() and LINK.resolve() == venv_dir():
        return
    if LINK.exists() and not LINK.is_symlink():
        sys.exit(f"{LINK} exists and is not ours. Move it away and run make setup again.")
    LINK.unlink(missing_ok=True)
    LINK.symlink_to(venv_dir())


@contextmanager
def _alone() -> Iterator[None]:
    """Hold this checkout's set-up lock; a second set-up waits for the first."""
    venv_dir().parent.mkdir(parents=True, exist_ok=True)
    with open(f"{venv_dir()}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up of this checkout is running; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read_stamps(path: Path) -> dict[str, str]:
    try:
        stamps: dict[str, str] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamps


def main() -> None:
    """Run the steps whose stamp is missing or old."""
    begun = time.monotonic()
    with _alone():
        path = Path(f"{venv_dir()}.stamps")
        # A dangling link means that the machine's Python was replaced.
        stamps = _read_stamps(path) if (venv_dir() / "bin" / "python").exists() else {}
        plan = steps()
        due = [step for step in plan if stamps.get(step.name) != step.made_from]
        if not stamps:
            _require_disk()
            print(f"The environment goes to {venv_dir()} (8 GB, a few minutes).", flush=True)
        for step in due:
            print(f"[{plan.index(step) + 1}/{len(plan)}] {step.name}", flush=True)
            step.run()
            stamps[step.name] = step.made_from
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(stamps, indent=1))
            os.replace(fresh, path)
        _link_environment()
    if due or "--quiet" not in sys.argv[1:]:
        print(f"set-up is complete ({time.monotonic() - begun:.1f} s)", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"set-up stopped: `{' '.join(error.cmd)}` failed. Run it again to go on from here.")
    except KeyboardInterrupt:
        sys.exit("\nset-up interrupted. Run it again to go on from here.")
