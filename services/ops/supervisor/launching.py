"""Starts a suite as a process of its own and ends it: what `trivium up --detach`, the demo and the tests use."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from services.ops.supervisor import record
from services.ops.supervisor.logfiles import tail
from services.ops.supervisor.record import ServiceState, SuiteRecord, SuiteState

if TYPE_CHECKING:
    from trivium_client import Trivium

_POLL_SECONDS = 0.1
Progress = Callable[[SuiteRecord], None]


class LaunchError(Exception):
    """The suite did not come up; the text says why."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite that runs in another process, for whoever started it."""

    data_dir: Path
    record: SuiteRecord

    @property
    def addresses(self) -> dict[str, str]:
        """Where each service takes calls (host:port)."""
        return {name: service.listen for name, service in self.record.services.items()}

    @property
    def admin_addresses(self) -> dict[str, str]:
        """Where each service answers health, reflection and channelz."""
        return {name: service.admin_listen for name, service in self.record.services.items()}

    @property
    def metrics_addresses(self) -> dict[str, str]:
        """Where each service shows its metrics over HTTP."""
        return {name: service.metrics_listen for name, service in self.record.services.items()}

    @property
    def http(self) -> str:
        """The gateway's HTTP door."""
        return self.record.services["gateway"].http_url

    @property
    def api_key(self) -> str:
        """The key that access made on its first start: owner of the default tenant, admin of the deployment."""
        return (self.data_dir / "keys" / "admin.key").read_text().strip()

    @property
    def service_key(self) -> str:
        """The key with which the services speak to one another."""
        return (self.data_dir / "keys" / "service.key").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to reach the suite."""
        addresses = {f"TRIVIUM_{name.upper()}_ADDRESS": address for name, address in self.addresses.items()}
        return {**addresses, "TRIVIUM_DATA_DIR": str(self.data_dir), "TRIVIUM_API_KEY": self.api_key}

    def client(self) -> "Trivium":
        """Return a new SDK client with the admin key; the caller closes it."""
        from trivium_client import Trivium

        return Trivium(api_key=self.api_key, addresses=self.addresses)

    def pid(self, service: str) -> int:
        """Return the process id that the running service wrote."""
        pid: int = json.loads((self.data_dir / "run" / f"{service}.json").read_text())["pid"]
        return pid

    def wait_serving(self, service: str, timeout_seconds: float = 60.0, *, other_than: int = 0) -> ServiceState:
        """Return once the supervisor sees `service` serve; `other_than` is the process id before a restart.

        Raises TimeoutError.
        """
        until = time.monotonic() + timeout_seconds
        while time.monotonic() < until:
            now = record.read(self.data_dir)
            seen = now.services.get(service) if now else None
            if seen and seen.state is ServiceState.SERVING and seen.pid != other_than:
                return seen.state
            time.sleep(_POLL_SECONDS)
        raise TimeoutError(f"{service} does not serve after {timeout_seconds} s")


@contextmanager
def launch(
    data_dir: Path,
    *,
    free_ports: bool = True,
    timeout_seconds: float = 900.0,
    environment: Mapping[str, str] | None = None,
    progress: Progress = lambda _record: None,
) -> Iterator[Suite]:
    """Run a suite for as long as the block lasts; it ends with this process, too.

    `progress` hears the record while the suite starts.  Raises LaunchError.
    """
    process = start(data_dir, free_ports=free_ports, environment=environment, tied=True)
    try:
        yield Suite(data_dir, wait_ready(process, data_dir, timeout_seconds, progress))
    finally:
        stop(process)


def start(
    data_dir: Path, *, free_ports: bool = False, environment: Mapping[str, str] | None = None, tied: bool = False
) -> "subprocess.Popen[bytes]":
    """Start a supervisor in a session of its own and return its process.

    Its output goes to `<data>/logs/suite.log`.  `tied` ends it when this process ends.
    """
    (data_dir / "logs").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "services.ops", "up"]
    command += ["--free-ports"] if free_ports else []
    command += ["--tied-to", str(os.getpid())] if tied else []
    variables = {**(environment if environment is not None else os.environ), "TRIVIUM_DATA_DIR": str(data_dir)}
    with (data_dir / "logs" / "suite.log").open("wb") as log:
        return subprocess.Popen(
            command,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_ready(
    process: "subprocess.Popen[bytes]",
    data_dir: Path,
    timeout_seconds: float,
    progress: Progress = lambda _record: None,
) -> SuiteRecord:
    """Return the record once everything serves.  Raises LaunchError, quoting the supervisor, when it never does."""
    until = time.monotonic() + timeout_seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise LaunchError("\n".join(tail(data_dir / "logs" / "suite.log", 20)))
        now = record.read(data_dir)
        if now is not None and now.pid == process.pid:
            progress(now)
            if now.state is SuiteState.READY:
                return now
        time.sleep(_POLL_SECONDS)
    raise LaunchError(f"the suite was not ready within {timeout_seconds:.0f} s; see {data_dir / 'logs'}")


def stop(process: "subprocess.Popen[bytes]", timeout_seconds: float = 60.0) -> int:
    """End a supervisor: SIGTERM, and SIGKILL after the timeout (its services then die with it)."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def stop_recorded(running: SuiteRecord, timeout_seconds: float) -> bool:
    """End the supervisor that wrote `running`; whether it ended in order and in time."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(running.pid)
        process.terminate()
        try:
            process.wait(timeout_seconds)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(10)
            return False
    return True
