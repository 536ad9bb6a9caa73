"""`trivium docs settings`: how a collection is searched where a request does not say."""

from dataclasses import asdict, replace
from typing import Annotated, Any

import typer

from trivium_client import Trivium
from trivium_client.cli.printing import Json, show_one


def settings(
    collection: Annotated[str, typer.Argument(help="Collection id.")],
    mode: Annotated[str | None, typer.Option(help="hybrid, dense or sparse; empty: the deployment's.")] = None,
    dense_weight: Annotated[float | None, typer.Option(min=0, max=1, help="Weight of vectors beside keywords.")] = None,
    rerank: Annotated[bool | None, typer.Option(help="Look at the best 40 again.")] = None,
    hyde: Annotated[
        str | None, typer.Option(help="Also look for a passage that might answer: off, weak or always.")
    ] = None,
    decompose: Annotated[bool | None, typer.Option(help="Break the question up as well.")] = None,
    json_wanted: Json = False,
) -> None:
    """Show how a collection is searched where a request does not say, or change what is named.

    Example: trivium docs settings handbook --hyde weak
    """
    named: dict[str, Any] = {
        "mode": mode, "dense_weight": dense_weight, "rerank": rerank, "hyde": hyde, "decompose": decompose,
    }  # fmt: skip
    changes = {name: value for name, value in named.items() if value is not None}
    with Trivium() as client:
        found = client.collections.get(collection)
        if changes:
            wanted = replace(found.search_settings, **changes)
            found = client.collections.update(collection, search_settings=wanted, etag=found.etag)
    show_one({"collection": found.collection, **asdict(found.search_settings)}, json_wanted=json_wanted)
