"""`trivium docs`: documents of collections."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli import adding, corpus, rebuilding, searching, sources, tuning
from trivium_client.cli.adding import COLUMNS, Collection
from trivium_client.cli.consent import Yes, require_consent, require_somebody
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, counted, drawn, show

app = typer.Typer(
    no_args_is_help=True,
    help="Documents that questions are answered from.\n\nExample: trivium docs add handbook/ -c handbook",
    epilog=EPILOG,
)

app.command(epilog=EPILOG)(adding.add)
app.command(epilog=EPILOG)(searching.search)
app.command(epilog=EPILOG)(corpus.count)
app.command(epilog=EPILOG)(corpus.which)
app.command(epilog=EPILOG)(corpus.summarize)
app.command(epilog=EPILOG)(tuning.settings)
app.command(epilog=EPILOG)(rebuilding.reindex)
app.command(epilog=EPILOG)(rebuilding.reembed)
app.command(epilog=EPILOG)(tuning.tune)
app.add_typer(sources.app, name="source")


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
    why = ("reason",) if any(document.reason for document in documents) else ()
    show(documents, (*COLUMNS, *why), json_wanted=json_wanted, empty=f"{collection} holds no document.")


@app.command(epilog=EPILOG)
def rm(
    documents: Annotated[list[str] | None, typer.Argument(help="Document ids, as `docs list` shows them.")] = None,
    collection: Collection = "default",
    everything: Annotated[bool, typer.Option("--all", help="The collection itself, with all that is in it.")] = False,
    yes: Yes = False,
    json_wanted: Json = False,
) -> None:
    """Delete documents with all their versions; --all asks first.

    Example: trivium docs rm leave.md -c handbook
    """
    if everything == bool(documents):
        raise typer.BadParameter("name documents, or say --all", param_hint="documents")
    with Trivium() as client:
        if everything:
            require_somebody("--all", yes=yes)
            if not yes:
                held = counted(sum(1 for _ in client.docs.list(collection)), "document")
                require_consent(f"Delete the collection {collection} with {held}?", "--all", yes=yes)
            count = client.collections.delete(collection)
        else:
            for document in documents or []:
                client.docs.delete(document, collection=collection)
            count = len(documents or [])
    typer.echo(f'{{"deleted": {count}}}' if json_wanted else f"Deleted {counted(count, 'document')}.")
