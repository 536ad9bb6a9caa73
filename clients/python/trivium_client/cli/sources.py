"""`trivium docs source`: URLs and S3 prefixes that the server reads itself."""

from typing import Annotated, Any

import typer

from trivium_client import NotFoundError, Trivium
from trivium_client.cli.adding import Collection
from trivium_client.cli.consent import Yes, require_consent
from trivium_client.cli.exits import EPILOG, Exit
from trivium_client.cli.ids import source_id
from trivium_client.cli.printing import Json, bars, counted, drawn, show, show_one
from trivium_client.nouns import Source

app = typer.Typer(
    no_args_is_help=True,
    help="Places that documents are read from.\n\nExample: trivium docs source add s3://handbooks/ferries -c handbook",
    epilog=EPILOG,
)
_COLUMNS = ("source", "uri", "state", "found", "stored", "unchanged", "failed", "deleted", "read_time", "reason")
SourceId = Annotated[str, typer.Argument(help="The source's id, as `docs source list` shows it, or its URI.")]


@app.command(epilog=EPILOG)
def add(
    uri: Annotated[str, typer.Argument(help="https://… or s3://BUCKET/PREFIX.")],
    collection: Collection = "default",
    prune: Annotated[bool, typer.Option("--prune", help="Delete documents whose objects are gone.")] = False,
    refresh: Annotated[int, typer.Option(help="Read it again every so many seconds, at least 60; 0: never.")] = 0,
    reader: Annotated[
        list[str] | None, typer.Option(help="Id that may read what it brings; may be repeated. Without any: everybody.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Return when it was read.")] = True,
    json_wanted: Json = False,
) -> None:
    """Have a URL, or all objects below an S3 prefix, read into a collection; the same again fetches what changed.

    Example: trivium docs source add s3://handbooks/ferries -c handbook
    """
    options: dict[str, Any] = {
        "collection": collection,
        "prune": prune,
        "refresh_seconds": refresh,
        "readers": reader or (),
    }
    with Trivium() as client:
        try:
            source = client.sources.add(uri, **options)
        except NotFoundError as error:
            if error.reason != "COLLECTION_NOT_FOUND":
                raise
            client.collections.create(collection, exist_ok=True)
            source = client.sources.add(uri, **options)
        if wait:
            source = _waited(client, source.source)
    show_one(source, json_wanted=json_wanted)
    for failure in source.failures:
        typer.echo(f"{failure.uri}: {failure.reason}", err=True)
    if source.failures or source.state == "failed":
        raise typer.Exit(Exit.REFUSED)


@app.command("list", epilog=EPILOG)
def list_sources(collection: Collection = "default", json_wanted: Json = False) -> None:
    """List a collection's sources, with how far each has come.

    Example: trivium docs source list -c handbook
    """
    with Trivium() as client:
        sources = drawn(client.sources.list(collection))
    show(sources, _COLUMNS, json_wanted=json_wanted, empty=f"{collection} has no source.")


@app.command("show", epilog=EPILOG)
def show_source(source: SourceId, collection: Collection = "default", json_wanted: Json = False) -> None:
    """Show one source, with what could not be stored.

    Example: trivium docs source show s3://handbooks/ferries -c handbook
    """
    with Trivium() as client:
        found = client.sources.get(source_id(client, source, collection))
    show_one(found, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def cancel(source: SourceId, collection: Collection = "default", json_wanted: Json = False) -> None:
    """Stop reading a source, now and later; what it brought stays.

    Example: trivium docs source cancel s3://handbooks/ferries -c handbook
    """
    with Trivium() as client:
        stopped = client.sources.cancel(source_id(client, source, collection))
    show_one(stopped, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def remove(
    source: SourceId,
    collection: Collection = "default",
    documents: Annotated[bool, typer.Option("--documents", help="Delete what it brought, too.")] = False,
    yes: Yes = False,
    json_wanted: Json = False,
) -> None:
    """Forget a source; what it brought stays, or goes with `--documents`, which asks first.

    Example: trivium docs source remove s3://handbooks/ferries -c handbook
    """
    with Trivium() as client:
        wanted = source_id(client, source, collection)
        if documents:
            require_consent(f"Delete {source} with all documents that it brought?", "--documents", yes=yes)
        count = client.sources.delete(wanted, documents=documents)
        if count:
            _gone(client, wanted)
    if json_wanted:
        typer.echo(f'{{"deleted": {count}}}')
        return
    typer.echo(f"Removed the source, and {counted(count, 'document')}." if documents else "Removed the source.")


def _waited(client: Trivium, source: str) -> Source:
    with bars() as progress:
        task = progress.add_task("reading", total=None)

        def told(found: Source) -> None:
            progress.update(task, description=f"reading: {found.found} found, {found.stored} stored")

        return client.sources.wait(source, told)


def _gone(client: Trivium, source: str) -> None:
    try:
        _waited(client, source)
    except NotFoundError:
        return
