"""`trivium files`: what is kept for a purpose."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, bars, drawn, show, show_one

app = typer.Typer(
    no_args_is_help=True,
    help="Files: requests of batches, rows to train on, texts for vector stores, and what batches wrote.\n\n"
    "Example: trivium files add requests.jsonl --purpose batch",
    epilog=EPILOG,
)
Name = Annotated[str, typer.Argument(help="File id, as `files list` shows it.")]


@app.command(epilog=EPILOG)
def add(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Any file.")],
    purpose: Annotated[
        str, typer.Option("--purpose", "-p", help="batch, fine-tune, assistants, user_data or evals.")
    ] = "user_data",
    expires_after_seconds: Annotated[
        int, typer.Option("--expires-after-seconds", min=0, help="3600 to 2592000; 0: by purpose.")
    ] = 0,
    json_wanted: Json = False,
) -> None:
    """Store a file.

    Example: trivium files add requests.jsonl --purpose batch
    """
    with Trivium() as client, bars() as progress:
        task = progress.add_task("uploading", total=None)
        file = client.files.upload(
            path,
            purpose=purpose,
            expires_after_seconds=expires_after_seconds,
            progress=lambda sent, whole: progress.update(task, completed=sent, total=whole),
        )
    show_one(file, json_wanted=json_wanted)


@app.command("list", epilog=EPILOG)
def list_files(
    purpose: Annotated[str, typer.Option("--purpose", "-p", help="Only those; also batch_output.")] = "",
    json_wanted: Json = False,
) -> None:
    """List files, newest first.

    Example: trivium files list --purpose batch_output
    """
    with Trivium() as client:
        files = drawn(client.files.list(purpose=purpose))
    columns = ("file", "filename", "purpose", "size_bytes", "create_time", "expire_time")
    show(files, columns, json_wanted=json_wanted, empty="There is no file. Add one with: trivium files add FILE")


@app.command(epilog=EPILOG)
def get(file: Name, json_wanted: Json = False) -> None:
    """Describe a file.

    Example: trivium files get file-0197f3a2
    """
    with Trivium() as client:
        show_one(client.files.get(file), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def download(
    file: Name,
    target: Annotated[Path, typer.Argument(help="A file, or a folder that it goes into under its own name.")] = Path(),
) -> None:
    """Write a file's content to this machine, and print where it is.

    Example: trivium files download file-0197f3a2 answers.jsonl
    """
    with Trivium() as client, bars() as progress:
        task = progress.add_task("downloading", total=None)
        path = client.files.download(
            file, target, progress=lambda sent, whole: progress.update(task, completed=sent, total=whole)
        )
    typer.echo(str(path))


@app.command(epilog=EPILOG)
def delete(file: Name) -> None:
    """Delete a file; what runs, and what it was put into, keeps what it reads: `trivium docs rm` deletes documents.

    Example: trivium files delete file-0197f3a2
    """
    with Trivium() as client:
        client.files.delete(file)
