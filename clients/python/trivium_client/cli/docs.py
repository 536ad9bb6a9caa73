"""`trivium docs`: documents of collections."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from trivium_client import InvalidRequestError, NotFoundError, Trivium
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.printing import Json, bars, counted, drawn, show
from trivium_client.nouns import Document

app = typer.Typer(
    no_args_is_help=True,
    help="Documents that questions are answered from.\n\nExample: trivium docs add handbook/ -c handbook",
    epilog=EPILOG,
)

Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]
_COLUMNS = ("document", "state", "chunks", "title", "update_time")
_ENDINGS = {".md", ".markdown", ".txt"}


@app.command(epilog=EPILOG)
def add(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders of .md and .txt files.")],
    collection: Collection = "default",
    wait: Annotated[bool, typer.Option(help="Return when everything is searchable.")] = True,
    json_wanted: Json = False,
) -> None:
    """Add documents, or new versions of them; a new collection is created with its first document.

    A file that is refused is named, the others are added all the same.

    Example: trivium docs add handbook/ -c handbook
    """
    files = [(file, name) for path in paths for file, name in _files(path)]
    if not files:
        raise typer.BadParameter("there is no .md or .txt file in it", param_hint="paths")
    refused = 0
    with Trivium() as client:
        added = []
        with bars() as progress:
            task = progress.add_task("storing", total=len(files))
            for file, name in files:
                try:
                    added.append(_stored(client, file, name, collection))
                except InvalidRequestError as error:
                    refused += 1
                    typer.echo(f"{file}: {error.message}", err=True)
                progress.advance(task)
            if wait and added:
                _wait(client, collection, progress)
        names = {document.document for document in added}
        now = [document for document in client.docs.list(collection) if document.document in names] if added else []
    show(now, _COLUMNS, json_wanted=json_wanted, empty="Nothing was added.")
    if refused or any(document.state == "failed" for document in now):
        raise typer.Exit(Exit.REFUSED)


@app.command("list", epilog=EPILOG)
def list_documents(collection: Collection = "", json_wanted: Json = False) -> None:
    """List a collection's documents; without one, the collections.

    Example: trivium docs list -c handbook
    """
    with Trivium() as client:
        if not collection:
            columns = ("collection", "description", "create_time")
            empty = "There is no collection. Make one with: trivium docs add FILE -c NAME"
            show(drawn(client.collections.list()), columns, json_wanted=json_wanted, empty=empty)
            return
        documents = drawn(client.docs.list(collection))
    show(documents, _COLUMNS, json_wanted=json_wanted, empty=f"{collection} holds no document.")


@app.command(epilog=EPILOG)
def rm(
    documents: Annotated[list[str] | None, typer.Argument(help="Document ids, as `docs list` shows them.")] = None,
    collection: Collection = "default",
    everything: Annotated[bool, typer.Option("--all", help="The collection itself, with all that is in it.")] = False,
    json_wanted: Json = False,
) -> None:
    """Delete documents with all their versions.

    Example: trivium docs rm leave.md -c handbook
    """
    if everything == bool(documents):
        raise typer.BadParameter("name documents, or say --all", param_hint="documents")
    with Trivium() as client:
        if everything:
            count = client.collections.delete(collection)
        else:
            for document in documents or []:
                client.docs.delete(document, collection=collection)
            count = len(documents or [])
    typer.echo(f'{{"deleted": {count}}}' if json_wanted else f"Deleted {counted(count, 'document')}.")


def _stored(client: Trivium, file: Path, name: str, collection: str) -> Document:
    try:
        return client.docs.add(file, collection=collection, document=name)
    except NotFoundError as error:
        if error.reason != "COLLECTION_NOT_FOUND":
            raise
    client.collections.create(collection, exist_ok=True)
    return client.docs.add(file, collection=collection, document=name)


def _files(path: Path) -> list[tuple[Path, str]]:
    """Files with their document ids: a name, or the path inside the folder that was given."""
    if path.is_file():
        return [(path, path.name)]
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in _ENDINGS)
    return [(file, file.relative_to(path).as_posix()) for file in found]


def _wait(client: Trivium, collection: str, progress: Progress) -> None:
    task = progress.add_task("ingesting", total=None)
    most = 0
    for _, pending in client.docs.watch(collection):
        most = max(most, pending)
        progress.update(task, total=most, completed=most - pending)
