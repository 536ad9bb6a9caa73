"""`trivium batches`: many requests at once, beside live traffic."""

from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, as_json, bars, drawn, say, show, show_one
from trivium_client.file_nouns import Batch

app = typer.Typer(
    no_args_is_help=True,
    help="Batches: a file of requests, and the file of their answers.\n\nExample: trivium batches run requests.jsonl",
    epilog=EPILOG,
)
Name = Annotated[str, typer.Argument(help="Batch id, as `batches list` shows it.")]
Endpoint = Annotated[
    str, typer.Option("--endpoint", help="/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses.")
]


@app.command(epilog=EPILOG)
def run(
    requests: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="JSON Lines of requests.")],
    endpoint: Endpoint = "/v1/chat/completions",
    detach: Annotated[bool, typer.Option("--detach", help="Begin it, and do not wait for its end.")] = False,
    json_wanted: Json = False,
) -> None:
    """Upload a file of requests and run it; interrupted here, it goes on there.

    Lines are {"custom_id", "method": "POST", "url": ENDPOINT, "body"}.

    Example: trivium batches run requests.jsonl
    """
    with Trivium() as client:
        file = client.files.upload(requests, purpose="batch")
        begun = client.batches.create(file.file, endpoint=endpoint)
        ended = begun if detach else _waited(client, begun.batch)
    _told(ended, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def wait(batch: Name, json_wanted: Json = False) -> None:
    """Wait until a batch has ended.

    Example: trivium batches wait batch_0197f3a2
    """
    with Trivium() as client:
        ended = _waited(client, batch)
    _told(ended, json_wanted=json_wanted)


def _waited(client: Trivium, batch: str) -> Batch:
    with bars() as progress:
        task = progress.add_task("answering", total=None)

        def told(found: Batch) -> None:
            progress.update(task, completed=found.completed + found.failed, total=found.total or None)

        return client.batches.wait(batch, told)


def _told(batch: Batch, *, json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(batch))
    else:
        show_one(batch, json_wanted=False)
        if batch.output_file:
            say(f"trivium files download {batch.output_file}")
    if batch.state == "failed":
        raise typer.Exit(Exit.REFUSED)


@app.command("list", epilog=EPILOG)
def list_batches(json_wanted: Json = False) -> None:
    """List batches, newest first.

    Example: trivium batches list
    """
    with Trivium() as client:
        batches = drawn(client.batches.list())
    columns = ("batch", "state", "total", "completed", "failed", "output_file", "error_file", "create_time")
    empty = "There is no batch. Begin one with: trivium batches run FILE"
    show(batches, columns, json_wanted=json_wanted, empty=empty)


@app.command(epilog=EPILOG)
def get(batch: Name, json_wanted: Json = False) -> None:
    """Describe a batch: how far it is, what is wrong with its input, where its answers are.

    Example: trivium batches get batch_0197f3a2
    """
    with Trivium() as client:
        show_one(client.batches.get(batch), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def cancel(batch: Name, json_wanted: Json = False) -> None:
    """End a batch early; what was answered is in its output file.

    Example: trivium batches cancel batch_0197f3a2
    """
    with Trivium() as client:
        show_one(client.batches.cancel(batch), json_wanted=json_wanted)
