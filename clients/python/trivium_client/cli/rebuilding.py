"""`trivium docs reindex` and `reembed`: what is made anew of a collection while it is searched.

Invariant: exit code 0 means that what was asked for serves, or with `--no-wait` that it is under way.
"""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json, bars, counted
from trivium_client.cli.tuning import tell_former_threshold
from trivium_client.nouns import Collection, Reembedding

CollectionId = Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection.")]


def reindex(
    collection: CollectionId,
    to: Annotated[str, typer.Option(help="embedded or weaviate; where it is when not given.")] = "",
    json_wanted: Json = False,
) -> None:
    """Build a collection's index anew, or move it, while it is searched; interrupted, the old one stays.

    The new one serves once counts and digests of what was read back agree with the catalog.

    Example: trivium docs reindex handbook --to embedded
    """
    with Trivium() as client, bars() as progress:
        task = progress.add_task("building", total=None)
        try:
            for build in client.collections.reindex(collection, to):
                progress.update(task, total=build.chunks, completed=build.chunks_done)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--to") from None
    if json_wanted:
        typer.echo(as_json(build))
        return
    typer.echo(f"{collection} is searched in its new index ({build.index}): {counted(build.chunks, 'chunk')}.")
    typer.echo(f"digest {build.digest}")


def reembed(
    collection: CollectionId,
    model: Annotated[
        str, typer.Argument(help="An embedding model: the deployment's, or your own (MODEL@NUMBER).")
    ] = "",
    cancel: Annotated[bool, typer.Option("--cancel", help="End a change that is under way, or that failed.")] = False,
    wait: Annotated[bool, typer.Option(help="Return when the new model serves; it goes on without.")] = True,
    json_wanted: Json = False,
) -> None:
    """Have a collection's vectors computed by another model; the old ones serve until all are there.

    The threshold of answers, fitted or set, was one of the old model's scores, and goes back to the default.

    Example: trivium docs reembed handbook all-MiniLM-L6-v2
    """
    if cancel == bool(model):
        raise typer.BadParameter("name a model, or say --cancel", param_hint="model")
    with Trivium() as client:
        if cancel:
            found = client.collections.cancel_reembedding(collection)
            _tell(found, f"{collection} stays with its model, {found.embedding_digest}.", json_wanted=json_wanted)
            return
        found = client.collections.reembed(collection, model)
        wanted = found.reembedding.embedding_digest if found.reembedding else found.embedding_digest
        if wait and found.reembedding:
            found = _waited(client, collection)
    if found.embedding_digest == wanted:
        _tell(found, f"{collection} is searched by {wanted}.", json_wanted=json_wanted)
        tell_former_threshold(found)
    elif found.reembedding and found.reembedding.running:
        _tell(found, f"{collection} is on its way to {wanted}.", json_wanted=json_wanted)
    else:
        why = found.reembedding.reason if found.reembedding else "somebody cancelled it, or asked for another model"
        _tell(found, "", json_wanted=json_wanted)
        typer.echo(f"{collection} keeps its model, {found.embedding_digest}: {why}", err=True)
        raise typer.Exit(Exit.REFUSED)


def _waited(client: Trivium, collection: str) -> Collection:
    with bars() as progress:
        task = progress.add_task("embedding", total=None)

        def told(change: Reembedding) -> None:
            what = f"embedding ({change.reason})" if change.reason else "embedding"
            progress.update(task, description=what, total=change.documents, completed=change.documents_done)

        return client.collections.reembedded(collection, told)


def _tell(found: Collection, sentence: str, *, json_wanted: bool) -> None:
    if json_wanted:
        typer.echo(as_json(found))
    elif sentence:
        typer.echo(sentence)
