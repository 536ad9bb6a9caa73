"""Shows a suite to people: a live table on a terminal, one line a change elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.ops.supervisor.record import ServiceRecord, ServiceState, SuiteRecord, SuiteState
from services.ops.supervisor.supervise import Observer

_COLOURS = {
    ServiceState.SERVING: "green",
    ServiceState.STARTING: "yellow",
    ServiceState.RESTARTING: "red",
    ServiceState.UNREADY: "red",
    ServiceState.FAILED: "bold red",
}


def table(record: SuiteRecord) -> Table:
    """Return the state of every service as a table."""
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("service", "state", "address", "pid", "for", "restarts", ""):
        grid.add_column(title, justify="right" if title in ("pid", "for", "restarts") else "left")
    for service in record.services.values():
        colour = _COLOURS.get(service.state, "dim")
        pid = str(service.pid or "")
        restarts = str(service.restarts or "")
        state = f"[{colour}]{service.state.value}[/]"
        # The OpenAI door stands under the gateway's own: as one line the two are too long for a narrow terminal.
        doors = f"{service.listen}\n{service.http_url}/v1" if service.http_url else service.listen
        grid.add_row(service.name, state, doors, pid, _age(service), restarts, service.note)
    return grid


def _age(service: ServiceRecord) -> str:
    seconds = int(time.time() - service.since)
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"


def welcome(record: SuiteRecord) -> str:
    """Return what to do next once everything serves."""
    gateway = record.services.get("gateway")
    doors = f"gRPC {gateway.listen}, OpenAI-compatible {gateway.http_url}/v1" if gateway else ""
    return "\n".join(
        [
            f"Trivium is up: {doors}",
            f"State and keys are in {record.data_dir} (keys/admin.key, keys/service.key).",
            'Ask something: trivium ask "What is the capital of Japan?"',
        ]
    )


def outcome(record: SuiteRecord) -> str:
    """Return what there is to say of the suite as a whole."""
    if record.state is SuiteState.READY:
        return welcome(record)
    if record.state is SuiteState.STOPPING:
        return "stopping"
    return record.note


@contextmanager
def shown(console: Console) -> Iterator[Observer]:
    """Yield an observer that shows what it hears on `console`."""
    if not console.is_terminal:
        yield _Lines(console)
        return
    screen = _Screen(console)
    # Refreshes ask for the table anew, so that the ages move.
    with Live(console=console, refresh_per_second=2, get_renderable=screen.render):
        yield screen


def changes(observer: Observer) -> Callable[[SuiteRecord], None]:
    """What tells an observer of every service whose state changed, where the whole record is looked at now and then."""
    told: dict[str, ServiceState] = {}

    def hear(record: SuiteRecord) -> None:
        for name, service in record.services.items():
            if told.get(name, ServiceState.WAITING) is not service.state:
                told[name] = service.state
                observer(record, name)

    return hear


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()

    def __call__(self, record: SuiteRecord, name: str) -> None:
        seconds = f"{time.monotonic() - self._begun:6.1f} s"
        if name:
            service = record.services[name]
            line = f"{seconds}  {name:10} {service.state.value:10} {service.note}".rstrip()
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif text := outcome(record):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Screen:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._record: SuiteRecord | None = None

    def render(self) -> Table:
        return table(self._record) if self._record else Table(box=None)

    def __call__(self, record: SuiteRecord, name: str) -> None:
        self._record = record
        if not name and record.state is not SuiteState.STARTING:
            self._console.print(outcome(record), markup=False, highlight=False, soft_wrap=True)
