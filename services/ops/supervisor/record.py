"""What a running suite tells the rest of the machine about itself, and how that is checked.

Two files in `<data>/run`: `suite.lock`, held for as long as the supervisor lives, and
`suite.json`, its last word.  Invariant: a process id from `suite.json` is acted upon only
when that process is the one that wrote it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from services.chassis.files import write_atomically


class ServiceState(StrEnum):
    """Where one service stands."""

    WAITING = "waiting"
    STARTING = "starting"
    SERVING = "serving"
    UNREADY = "not ready"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class SuiteState(StrEnum):
    """Where the suite as a whole stands."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One service as the supervisor sees it.  `since` is Unix time of the last change of state."""

    name: str
    state: ServiceState
    since: float
    pid: int = 0
    restarts: int = 0
    note: str = ""
    listen: str = ""
    admin_listen: str = ""
    metrics_listen: str = ""
    http_listen: str = ""
    http_scheme: str = "http"

    @property
    def http_url(self) -> str:
        """Where the service's HTTP door is asked; empty without one."""
        return f"{self.http_scheme}://{self.http_listen}" if self.http_listen else ""


@dataclass(frozen=True, slots=True)
class SuiteRecord:
    """The suite.  `process_started` tells the supervisor's process from a later one with its number."""

    pid: int
    process_started: float
    data_dir: str
    state: SuiteState
    note: str = ""
    services: Mapping[str, ServiceRecord] = field(default_factory=dict)


class AlreadyRunningError(Exception):
    """Another supervisor holds this data folder."""


def record_path(data_dir: Path) -> Path:
    """Return where the suite's record stands."""
    return data_dir / "run" / "suite.json"


def write(record: SuiteRecord) -> None:
    """Replace the record."""
    path = record_path(Path(record.data_dir))
    write_atomically(path, json.dumps(asdict(record), indent=1).encode())


def read(data_dir: Path) -> SuiteRecord | None:
    """Return the last word of the suite on this folder, whether it runs or not; None without one."""
    try:
        fields = json.loads(record_path(data_dir).read_text())
        services = {
            name: ServiceRecord(**{**entry, "state": ServiceState(entry["state"])})
            for name, entry in fields.pop("services").items()
        }
        return SuiteRecord(**{**fields, "state": SuiteState(fields["state"]), "services": services})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def read_running(data_dir: Path) -> SuiteRecord | None:
    """Return the record of the suite that runs on this folder now; None when none does."""
    record = read(data_dir)
    return record if record is not None and is_ours(record) else None


def is_ours(record: SuiteRecord) -> bool:
    """Whether the recorded process still is the supervisor that wrote the record."""
    try:
        process = psutil.Process(record.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - record.process_started) < 1.0
    except psutil.Error:
        return False


def occupied(data_dir: Path, running: SuiteRecord | None) -> str:
    """Say that a suite runs on the folder (`running`, once it wrote so) and what one can do."""
    who = f" (pid {running.pid})" if running else ""
    return (
        f"Trivium already runs on {data_dir}{who}: use that one, or stop it with `trivium down`. For a second one beside "
        "it, name another folder: TRIVIUM_DATA_DIR=/elsewhere trivium up --free-ports"
    )


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the folder's lock.  Raises AlreadyRunningError, saying who holds it and what to do."""
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / "run" / "suite.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(occupied(data_dir, read_running(data_dir))) from None
        yield
    finally:
        os.close(descriptor)
