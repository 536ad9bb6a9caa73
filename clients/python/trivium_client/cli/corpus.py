"""`trivium docs count`, `docs which` and `docs summarize`: answers about a whole collection."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.adding import Collection
from trivium_client.cli.printing import Json, as_json, counted, show
from trivium_client.cli.searching import Reader, Where, all_of
from trivium_client.nouns import MatchingDocument, Statement

Keywords = Annotated[str, typer.Argument(help="Words to look for, by their stems; without any, every document counts.")]
Match = Annotated[
    str, typer.Option(help="passage: all words in one passage; document: all somewhere in it; any: one of them.")
]


def count(
    keywords: Keywords = "",
    collection: Collection = "default",
    match: Match = "passage",
    group_by: Annotated[str, typer.Option("--by", help="Count by this field of the metadata as well.")] = "",
    where: Where = None,
    as_reader: Reader = None,
    json_wanted: Json = False,
) -> None:
    """Count the documents that hold words, exactly.

    Example: trivium docs count "late delivery" -c contracts --by year
    """
    with Trivium() as client:
        tally = client.docs.count(
            keywords,
            collection=collection,
            match=match,
            where=all_of(where),
            group_by=group_by,
            as_readers=as_reader or [],
        )
    if json_wanted:
        typer.echo(as_json(tally))
        return
    passages = counted(tally.passages, "passage")
    typer.echo(f"{tally.documents} of {counted(tally.searched, 'document')}, {passages}.")
    if tally.groups:
        show(tally.groups, ("value", "documents", "passages"), json_wanted=False, empty="")


def which(
    keywords: Keywords = "",
    collection: Collection = "default",
    match: Match = "passage",
    where: Where = None,
    as_reader: Reader = None,
    json_wanted: Json = False,
) -> None:
    """List every document that holds words, each with the first place where it does.

    Example: trivium docs which "late delivery" -c contracts --where "year>=2024"
    """
    with Trivium() as client:
        found = list(
            client.docs.matching(
                keywords, collection=collection, match=match, where=all_of(where), as_readers=as_reader or []
            )
        )
    if json_wanted:
        typer.echo(as_json(found))
        return
    if not found:
        typer.echo("No document is like that.")
    for document in found:
        typer.echo(_shown(document))


def _shown(document: MatchingDocument) -> str:
    line = f"{document.document}  {counted(document.passages, 'passage')}"
    if document.first is None:
        return line
    span = document.first.span
    return f"{line}, first [{span.start}, {span.end}) {' '.join(document.first.text.split())[:80]}"


def summarize(
    collection: Annotated[str, typer.Argument(help="The collection.")] = "default",
    focus: Annotated[str, typer.Option(help="What it is for: a question or a subject; every passage is read.")] = "",
    mode: Annotated[str, typer.Option(help="extractive or abstractive; as the deployment has it otherwise.")] = "",
    max_tokens: Annotated[int, typer.Option(min=0, max=16384, help="Most tokens of it all; 0: eight statements.")] = 0,
    where: Where = None,
    as_reader: Reader = None,
    json_wanted: Json = False,
) -> None:
    """Say what a collection says, each sentence with where it stands.

    Example: trivium docs summarize contracts --focus "what happens when a delivery is late"
    """
    with Trivium() as client:
        summary = client.docs.summarize(
            collection,
            focus=focus,
            mode=mode,
            max_tokens=max_tokens,
            where=all_of(where),
            as_readers=as_reader or [],
        )
    if json_wanted:
        typer.echo(as_json(summary))
        return
    for number, statement in enumerate(summary.statements, start=1):
        typer.echo(_said(number, statement))
    read = f"From {summary.chunks_read} of {counted(summary.chunks, 'passage')}"
    typer.echo(f"{read}; {counted(summary.nodes_computed, 'node')} computed, {summary.nodes_reused} reused.")


def _said(number: int, statement: Statement) -> str:
    places = [f"{it.span.document} [{it.span.start}, {it.span.end})" for it in statement.citations]
    return f"{number}. {' '.join(statement.text.split())}\n   {', '.join(places)}"
