"""`trivium up|down|status|doctor|logs|backup|restore|train-encoder`: the suite on this machine.

Joins the client's `trivium` through the entry point group `trivium.cli`, so the commands
appear where the application is installed and nowhere else.
"""

import asyncio
import dataclasses
import json
import shutil
import signal
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from trivium_client.cli.exits import EPILOG, Exit

from services.chassis.config import ServiceSettings
from services.chassis.processes import die_with_parent
from services.ops import doctor as examination
from services.ops.backup import command as backups
from services.ops.supervisor import launching, record, view
from services.ops.supervisor.doors import conflicts, settled
from services.ops.supervisor.logfiles import Follower, tail
from services.ops.supervisor.plan import suite_programs
from services.ops.supervisor.supervise import Supervisor
from services.ops.tuning import command as tuning

app = typer.Typer(no_args_is_help=True, help="The suite on this machine.", epilog=EPILOG, rich_markup_mode="rich")

app.command(epilog=EPILOG)(backups.backup)
app.command(epilog=EPILOG)(backups.restore)
app.command(epilog=EPILOG)(tuning.train_encoder)

# Under this the databases of the services would soon fail to write.
FREE_BYTES_NEEDED = 500 * 10**6
_FOLLOW_SECONDS = 0.3

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]
Folder = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the suite's state.", envvar="TRIVIUM_DATA_DIR")
]


@app.command(epilog=EPILOG)
def up(
    data_dir: Folder = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once everything serves.")] = False,
    free_ports: Annotated[bool, typer.Option("--free-ports", help="Take ports that nobody uses.")] = False,
    tied_to: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Start every service and keep it running; Ctrl-C stops them.

    Example: trivium up --detach
    """
    folder = _folder(data_dir)
    if detach:
        _detached(folder, free_ports)
        return
    if tied_to:
        die_with_parent(tied_to)
    _require_disk(folder)
    try:
        with record.held(folder):
            code = _supervise(folder, free_ports)
    except record.AlreadyRunningError as error:
        raise _refusal(str(error)) from None
    raise typer.Exit(code)


@app.command(epilog=EPILOG)
def down(
    data_dir: Folder = None,
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds before it is killed.")] = 120.0,
) -> None:
    """Stop the suite in order.

    Example: trivium down
    """
    folder = _folder(data_dir)
    running = record.read_running(folder)
    if running is None:
        typer.echo(f"Nothing runs on {folder}.")
        return
    orderly = launching.stop_recorded(running, timeout_seconds)
    record.record_path(folder).unlink(missing_ok=True)
    typer.echo("Stopped." if orderly else f"Killed: it did not stop within {timeout_seconds:.0f} s.")


@app.command(epilog=EPILOG)
def status(data_dir: Folder = None, as_json: Json = False) -> None:
    """Show the state of every service; exit code 6 unless all serve.

    Example: trivium status --json
    """
    folder = _folder(data_dir)
    running = record.read_running(folder)
    if as_json:
        stopped = {"data_dir": str(folder), "state": "stopped", "services": {}}
        typer.echo(json.dumps(dataclasses.asdict(running) if running else stopped))
    elif running is None:
        typer.echo(f"Nothing runs on {folder}. Start it with: trivium up")
    else:
        Console().print(view.table(running))
    serving = running is not None and all(
        service.state is record.ServiceState.SERVING for service in running.services.values()
    )
    raise typer.Exit(Exit.OK if serving else Exit.UNAVAILABLE)


@app.command(epilog=EPILOG)
def doctor(data_dir: Folder = None, as_json: Json = False) -> None:
    """Examine this machine and the suite on it, and say what to do about what is wrong.

    Example: trivium doctor
    """
    findings = examination.examine(_folder(data_dir))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        Console().print(examination.table(findings))
    failed = any(finding.verdict is examination.Verdict.BAD for finding in findings)
    raise typer.Exit(Exit.FAILURE if failed else Exit.OK)


@app.command(epilog=EPILOG)
def logs(
    service: Annotated[str, typer.Argument(help="Service; all when not given.")] = "",
    data_dir: Folder = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines from the end.")] = 50,
) -> None:
    """Print what services wrote.

    Example: trivium logs generator -f
    """
    known = [program.name for program in suite_programs()]
    if service and service not in known:
        typer.echo(f"There is no service {service}; there are {', '.join(known)}.", err=True)
        raise typer.Exit(Exit.NOT_FOUND)
    files = {name: _folder(data_dir) / "logs" / f"{name}.log" for name in ([service] if service else known)}
    if not any(path.exists() for path in files.values()):
        typer.echo(f"Nothing was written on {_folder(data_dir)} yet. Start the suite with: trivium up", err=True)
    followers = {name: Follower(path) for name, path in files.items()} if follow else {}
    for name, path in files.items():
        _print_lines(name, tail(path, lines), named=not service)
    while followers:
        for name, follower in followers.items():
            _print_lines(name, list(follower.fresh()), named=not service)
        time.sleep(_FOLLOW_SECONDS)


def _supervise(folder: Path, free_ports: bool) -> int:
    programs = suite_programs()
    doors = settled([program.name for program in programs], free=free_ports)
    if taken := conflicts(doors):
        listed = "\n".join(f"  {conflict}" for conflict in taken)
        raise _refusal(
            f"Nothing was started, because other programs hold these addresses:\n{listed}\n"
            "Stop them, set the variables to other ports, or let free ones be taken: trivium up --free-ports"
        )

    async def supervised() -> int:
        with view.shown(Console()) as observer:
            supervisor = Supervisor(programs, doors, folder, observe=observer)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                asyncio.get_running_loop().add_signal_handler(number, supervisor.stop)
            return await supervisor.run()

    return asyncio.run(supervised())


def _detached(folder: Path, free_ports: bool) -> None:
    if running := record.read_running(folder):
        raise _refusal(record.occupied(folder, running))
    process = launching.start(folder, free_ports=free_ports)
    try:
        # Beside what programs read.
        with view.shown(Console(stderr=True)) as observer:
            ready = launching.wait_ready(process, folder, timeout_seconds=900.0, progress=view.changes(observer))
    except launching.LaunchError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(launching.stop(process) or Exit.FAILURE) from None
    except KeyboardInterrupt:
        launching.stop(process)
        raise
    typer.echo(view.welcome(ready))


def _folder(data_dir: Path | None) -> Path:
    return data_dir.expanduser().absolute() if data_dir else ServiceSettings().data_dir


def _require_disk(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_NEEDED:
        raise _refusal(
            f"{folder} has {free / 1e6:.0f} MB free, under the {FREE_BYTES_NEEDED / 1e6:.0f} MB that the services "
            "need to write safely. Free some, or choose another folder: TRIVIUM_DATA_DIR=/elsewhere trivium up"
        )


def _refusal(text: str) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(Exit.REFUSED)


def _print_lines(name: str, lines: list[str], *, named: bool) -> None:
    for line in lines:
        typer.echo(f"{name:10} {line}" if named else line)
