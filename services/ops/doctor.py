"""Examines a machine and the suite on it: what is fine, what is not, and what to do.

Every finding stands alone: one that cannot be made says so and hides no other.
"""

import asyncio
import importlib.metadata
import re
import shutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from rich.table import Table

from services.chassis import resources
from services.chassis.models import ModelSettings
from services.ops.cache import CHECKOUT
from services.ops.supervisor import record
from services.ops.supervisor.doors import conflicts, settled
from services.ops.supervisor.health import Probe
from services.ops.supervisor.plan import suite_programs

_GB = 10**9
# The engine, its weights and cache, the trainer and the embedder together.
_MEMORY_BYTES = 6 * _GB
_DISK_BYTES = 5 * _GB
_PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)(?:\s*;\s*([^\\]+))?", re.MULTILINE)


class Verdict(StrEnum):
    """How a finding is to be taken."""

    GOOD = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    subject: str
    verdict: Verdict
    text: str


def examine(data_dir: Path) -> list[Finding]:
    """Return everything found, the machine first."""
    running = record.read_running(data_dir)
    found: list[Finding] = []
    looks: list[Callable[[], list[Finding]]] = [
        _python,
        _machine,
        lambda: _disk(data_dir),
        _versions,
        _models,
        lambda: _keys(data_dir),
        (lambda: _services(running)) if running else _ports,
    ]
    for look in looks:
        found += look()
    return found


def table(findings: list[Finding]) -> Table:
    """Return the findings for people."""
    colours = {Verdict.GOOD: "green", Verdict.WARNING: "yellow", Verdict.BAD: "bold red"}
    grid = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        grid.add_row(finding.subject, f"[{colours[finding.verdict]}]{finding.verdict.value}[/]", finding.text)
    return grid


def _python() -> list[Finding]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} ({sys.executable})"
    good = sys.version_info >= (3, 11)
    return [Finding("python", Verdict.GOOD if good else Verdict.BAD, version if good else f"{version}; needs 3.11")]


def _machine() -> list[Finding]:
    memory = resources.available_memory_bytes()
    free = psutil.virtual_memory().available
    text = f"{free / _GB:.1f} of {memory / _GB:.1f} GB are free"
    enough = min(memory, free) >= _MEMORY_BYTES
    if not enough:
        text += f"; the suite with its engine wants {_MEMORY_BYTES / _GB:.0f} GB. Close what you do not need"
    cores = resources.available_cores()
    return [
        Finding("memory", Verdict.GOOD if enough else Verdict.WARNING, text),
        Finding("cores", Verdict.GOOD if cores > 1 else Verdict.WARNING, f"{cores}"),
    ]


def _disk(data_dir: Path) -> list[Finding]:
    place = data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    text = f"{free / _GB:.1f} GB free for {data_dir}"
    if free < _DISK_BYTES:
        return [Finding("disk", Verdict.WARNING, f"{text}; {_DISK_BYTES / _GB:.0f} GB are comfortable")]
    return [Finding("disk", Verdict.GOOD, text)]


def _versions() -> list[Finding]:
    lock = CHECKOUT / "requirements.lock"
    if not lock.exists():
        return [Finding("versions", Verdict.WARNING, "no requirements.lock beside the services to compare with")]
    wrong = []
    for name, wanted, condition in _PINNED.findall(lock.read_text()):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not condition:
                wrong.append(f"{name} is missing")
            continue
        if installed != wanted:
            wrong.append(f"{name} {installed} instead of {wanted}")
    if wrong:
        text = f"{len(wrong)} differ from the lock: {', '.join(wrong[:4])}. Run: make setup"
        return [Finding("versions", Verdict.WARNING, text)]
    return [Finding("versions", Verdict.GOOD, "as the lock says")]


def _models() -> list[Finding]:
    settings = ModelSettings()
    prepared = [path.name for path in settings.models_dir.glob("[!.]*") if path.is_dir()]
    where = f"in {settings.models_dir}"
    if settings.base_model.endswith(".gguf") and not prepared:
        text = f"the default model is not prepared yet {where}; the first start takes half a minute more"
        return [Finding("models", Verdict.WARNING, text)]
    return [Finding("models", Verdict.GOOD, f"{len(prepared)} prepared {where}")]


def _keys(data_dir: Path) -> list[Finding]:
    found = []
    for name in ("admin.key", "service.key"):
        path = data_dir / "keys" / name
        if not path.exists():
            found.append(Finding(name, Verdict.WARNING, f"not there yet; the first `trivium up` makes {path}"))
        elif mode := stat.S_IMODE(path.stat().st_mode) & 0o077:
            text = f"others may read it (mode {mode | stat.S_IMODE(path.stat().st_mode):o}). Run: chmod 600 {path}"
            found.append(Finding(name, Verdict.BAD, text))
        else:
            found.append(Finding(name, Verdict.GOOD, f"{path}, for its owner only"))
    return found


def _ports() -> list[Finding]:
    names = [program.name for program in suite_programs()]
    taken = conflicts(settled(names, free=False))
    if taken:
        return [Finding("ports", Verdict.BAD, str(conflict)) for conflict in taken]
    return [
        Finding("ports", Verdict.GOOD, "all free"),
        Finding("suite", Verdict.WARNING, "does not run. Start it with: trivium up"),
    ]


def _services(running: record.SuiteRecord) -> list[Finding]:
    async def look(service: record.ServiceRecord) -> Finding:
        async with Probe(service.admin_listen) as probe:
            serving, why = await probe.look()
        if serving:
            return Finding(service.name, Verdict.GOOD, f"serves on {service.listen} (pid {service.pid})")
        return Finding(service.name, Verdict.BAD, f"{why or service.note}. See: trivium logs {service.name}")

    async def look_at_all() -> list[Finding]:
        return list(await asyncio.gather(*(look(service) for service in running.services.values())))

    return asyncio.run(look_at_all())
