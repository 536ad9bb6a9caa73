"""`trivium data`: datasets to train on."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, bars, drawn, show, show_one

app = typer.Typer(no_args_is_help=True, help="Datasets that jobs train on.", epilog=EPILOG)


@app.command(epilog=EPILOG)
def add(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A JSON Lines file.")],
    name: Annotated[str, typer.Option("--name", "-n", help="Id; default from the file's name.")] = "",
    json_wanted: Json = False,
) -> None:
    """Check and store a dataset: lines of {"messages": […]} or {"prompt", "completion"}.

    Example: trivium data add pairs.jsonl --name desk-pairs
    """
    with Trivium() as client, bars() as progress:
        task = progress.add_task("uploading", total=None)
        dataset = client.data.upload(
            path, name=name, progress=lambda sent, whole: progress.update(task, completed=sent, total=whole)
        )
    if name and dataset.dataset != name:
        taken = dataset.dataset == f"{name[:54]}-{dataset.digest.removeprefix('sha256:')[:8]}"
        why = f"{name} holds other rows" if taken else "these very bytes were stored under this name before"
        typer.echo(f"Its name is {dataset.dataset}: {why}.", err=True)
    show_one(dataset, json_wanted=json_wanted)


@app.command("list", epilog=EPILOG)
def list_datasets(json_wanted: Json = False) -> None:
    """List datasets, newest first.

    Example: trivium data list
    """
    with Trivium() as client:
        datasets = drawn(client.data.list())
    columns = ("dataset", "rows", "tokens", "supervised_tokens", "format", "digest", "create_time")
    empty = "There is no dataset. Add one with: trivium data add FILE"
    show(datasets, columns, json_wanted=json_wanted, empty=empty)
