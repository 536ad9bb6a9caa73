"""`trivium models`: what is found out about versions: searches, lineage, and what happened to an alias."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.naming import alias_of, dataset_digest, version_of
from trivium_client.cli.printing import Json, as_json, drawn, show
from trivium_client.governance_nouns import Family, FoundVersion, Relative

app = typer.Typer(epilog=EPILOG)

_OF_FOUND = ("model", "number", "version", "kind", "role", "tags", "value", "job", "create_time")


@app.command(epilog=EPILOG)
def search(
    text: Annotated[str, typer.Argument(help="Part of a name, description, card, task or tag.")] = "",
    base: Annotated[str, typer.Option("--base", help="Base that it belongs to: base, base:NAME.")] = "",
    base_digest: Annotated[str, typer.Option("--base-digest", help="The same by its digest.")] = "",
    task: Annotated[str, typer.Option("--task", help="Task of its model.")] = "",
    with_tag: Annotated[str, typer.Option("--tag", help="A tag that it has.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="lora, full or encoder.")] = "",
    metric: Annotated[str, typer.Option("--metric", help="A metric that was measured.")] = "",
    least: Annotated[float | None, typer.Option("--least", help="Least value of the metric.")] = None,
    most: Annotated[float | None, typer.Option("--most", help="Most value of the metric.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset measured or trained on: id or digest.")] = "",
    job: Annotated[str, typer.Option("--job", help="Training job that made it.")] = "",
    order: Annotated[str, typer.Option("--order", help="newest; highest or lowest by the metric.")] = "newest",
    json_wanted: Json = False,
) -> None:
    """Find versions over all models; every condition that is given must hold.

    Example: trivium models search --metric accuracy --least 0.9 --order highest
    """
    with Trivium() as client:
        found = client.models.search(
            text,
            base_digest=base_digest or (client.models.base_digest(base) if base else ""),
            task=task,
            tag=with_tag,
            kind=kind,
            metric=metric,
            least=least,
            most=most,
            dataset_digest=dataset_digest(client, dataset),
            job=job,
            order=order,
        )
        rows = [_flat(item) for item in found]
    absent = [] if metric else ["value"]
    absent += [] if any(row.role for row in rows) else ["role"]
    columns = [column for column in _OF_FOUND if column not in absent]
    show(rows, columns, json_wanted=json_wanted, empty="No version is like that.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A version that was found, on one line."""

    model: str
    number: int
    version: str
    kind: str
    role: str
    tags: tuple[str, ...]
    value: float | None
    job: str
    create_time: object


def _flat(found: FoundVersion) -> _Row:
    version = found.version
    return _Row(
        version.model,
        version.number,
        version.version,
        version.kind,
        version.role,
        version.tags,
        found.value,
        version.job,
        version.create_time,
    )


@app.command(epilog=EPILOG)
def lineage(
    name: Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME@VERSION.")], json_wanted: Json = False
) -> None:
    """Show what a version was made from, back to the base, and all that was made from it.

    Example: trivium models lineage desk@2
    """
    with Trivium() as client:
        model, version = version_of(client, name)
        family = client.models.family(version, model=model)
    if json_wanted:
        typer.echo(as_json(family))
        return
    for line in drawn_family(family):
        typer.echo(line)


def drawn_family(family: Family) -> list[str]:
    """Lines: what it came from above, the version itself, what came from it below, each under what it hangs on."""
    chosen = family.chain[0]
    lines = ["made from:", *_tree(family.ancestors, chosen.version)] if family.ancestors else []
    if not family.ancestors:
        # The digest of a full model is its own.
        base = chosen.lineage_base_digest or (chosen.base_digest if chosen.kind == "lora" else "")
        lines.append(f"made from the base {base}" if base else "made from nothing here")
    lines.append(f"{chosen.model}@{chosen.number} {chosen.version}")
    lines += [f"  trained on {chosen.dataset_digest}"] if chosen.dataset_digest else []
    lines += ["led to:", *_tree(family.descendants, chosen.version)] if family.descendants else ["led to nothing yet"]
    return [*lines, "and more than is shown here"] if family.truncated else lines


def _tree(relatives: tuple[Relative, ...], root: str, depth: int = 1) -> list[str]:
    lines = []
    for relative in relatives:
        if relative.via == root and relative.depth == depth:
            version = relative.version
            job = f" by {version.job}" if version.job else ""
            lines.append(f"{'  ' * depth}{version.model}@{version.number} {version.version}{job}")
            lines += _tree(relatives, version.version, depth + 1)
    return lines


@app.command(epilog=EPILOG)
def moves(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    deletions: Annotated[
        bool, typer.Option("--deletions", help="What of the model was deleted, restored and purged instead.")
    ] = False,
    json_wanted: Json = False,
) -> None:
    """List what happened to an alias, newest first: what, when, from what to what, by whom, and why.

    Example: trivium models moves desk
    """
    model, alias_id = alias_of(name)
    if deletions and "@" in name:
        raise typer.BadParameter("--deletions are of a model: say NAME", param_hint="name")
    made: Sequence[object]
    with Trivium() as client:
        if deletions:
            made = drawn(client.models.changes(model))
            columns = ("number", "kind", "version_number", "version", "principal", "create_time", "reason", "detail")
        else:
            made = drawn(client.models.alias_moves(model, alias_id))
            columns = ("number", "kind", "from_version", "to_version", "principal", "create_time", "reason", "detail")
    show(made, columns, json_wanted=json_wanted, empty="Nothing has happened to it yet.")
