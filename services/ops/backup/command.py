"""`trivium backup` and `trivium restore`."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from trivium_client.cli.exits import Exit

from services.chassis.config import ServiceSettings
from services.ops.backup.contents import BackupError
from services.ops.backup.restoring import restore as restored
from services.ops.backup.taking import take

Folder = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the suite's state.", envvar="TRIVIUM_DATA_DIR")
]
_ELSEWHERE = ("ACCESS_DATABASE_URL", "REGISTRY_DATABASE_URL", "RETRIEVER_DATABASE_URL", "TRAINER_DATABASE_URL")
_BLOBS_ELSEWHERE = ("REGISTRY_BLOBS_URL", "TRAINER_BLOBS_URL")


def backup(
    folder: Annotated[Path, typer.Argument(help="A new folder that the backup is written into.")],
    data_dir: Folder = None,
) -> None:
    """Back up the suite on this machine while it serves: databases, blobs and keys, in one consistent folder.

    Whoever can read it can do everything: it holds the keys.

    Example: trivium backup /backups/monday
    """
    try:
        with Console(stderr=True).status("") as status:
            manifest = take(_data(data_dir), folder.expanduser().absolute(), status.update)
    except BackupError as error:
        raise _refused(error) from None
    typer.echo(f"{folder} holds {len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB.")
    for name in _ELSEWHERE + _BLOBS_ELSEWHERE:
        if os.environ.get(f"TRIVIUM_{name}", "sqlite").partition(":")[0] not in ("sqlite", "", "file"):
            what = "pg_dump" if name in _ELSEWHERE else "the means of that bucket"
            typer.echo(f"TRIVIUM_{name} is elsewhere and not in it: back that up by {what}.", err=True)


def restore(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="The backup.")],
    data_dir: Folder = None,
) -> None:
    """Make a data folder out of a backup; the index is built anew when the suite starts.

    Example: trivium restore /backups/monday --data-dir /srv/trivium
    """
    data = _data(data_dir)
    try:
        manifest = restored(folder.expanduser().absolute(), data)
    except BackupError as error:
        raise _refused(error) from None
    typer.echo(f"{data} has {len(manifest.files)} files again. Start the suite on it: trivium up --data-dir {data}")


def _data(data_dir: Path | None) -> Path:
    return data_dir.expanduser().absolute() if data_dir else ServiceSettings().data_dir


def _refused(error: BackupError) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(Exit.REFUSED)
