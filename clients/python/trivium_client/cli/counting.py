"""`trivium docs count` and `docs which`: exact answers about a whole collection."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.adding import Collection
from trivium_client.cli.printing import Json, as_json, counted, show
from trivium_client.cli.searching import Reader, Where, all_of
from trivium_client.nouns import MatchingDocument

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
