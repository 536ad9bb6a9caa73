"""`trivium models`: what is decided about versions: tags, cards, measurements, gates, canaries, retention, restoring."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.models import Why, app
from trivium_client.cli.naming import alias_of, version_named, version_of
from trivium_client.cli.printing import Json, as_json, document, drawn, show, show_one
from trivium_client.governance_nouns import Family, FoundVersion, Relative

# The commands here hang on the app of `models`.
__all__ = ["app", "drawn_family"]

_OF_FOUND = ("model", "number", "version", "kind", "tags", "value", "job", "create_time")


@app.command(epilog=EPILOG)
def tag(
    name: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@ALIAS.")],
    tags: Annotated[list[str] | None, typer.Argument(help="Tags that it gets.")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="A tag that it loses; may be repeated.")] = None,
    json_wanted: Json = False,
) -> None:
    """Add tags to a version and remove others; they are short names for people and change no digest.

    Example: trivium models tag desk@3 best --remove old
    """
    with Trivium() as client:
        model, version = version_of(client, name)
        show_one(client.models.tag(version, model=model, add=tags or (), remove=remove or ()), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def card(
    name: Annotated[str, typer.Argument(help="Model.")],
    file: Annotated[Path | None, typer.Argument(help="Markdown, at most 64 KiB; - reads standard input.")] = None,
    task: Annotated[str | None, typer.Option("--task", help="What it is for, for instance summarisation.")] = None,
    json_wanted: Json = False,
) -> None:
    """Show a model's card, or set it from a file.

    Example: trivium models card desk card.md
    """
    text = None if file is None else sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    with Trivium() as client:
        if text is None and task is None:
            described = client.models.get(name)
        else:
            described = client.models.update(name, card=text, task=task)
    if json_wanted:
        typer.echo(as_json({"model": name, "task": described.task, "card": described.card}))
    elif text is None and task is None:
        typer.echo(document(described.card) or "It has no card.")
    else:
        typer.echo(f"The card of {name} has {len(described.card)} characters.")


@app.command(epilog=EPILOG)
def evaluate(
    name: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@ALIAS.")],
    metric: Annotated[str, typer.Argument(help="What was measured, for instance accuracy.")],
    value: Annotated[float, typer.Argument(help="Its value.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Digest of the dataset that it was measured on.")] = "",
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows of that dataset.")] = 0,
    note: Annotated[str, typer.Option("--note", help="How it was measured.")] = "",
    json_wanted: Json = False,
) -> None:
    """Record a measurement of a version; nothing is ever replaced, the newest counts.

    Example: trivium models evaluate desk@3 accuracy 0.91 --dataset sha256:…
    """
    with Trivium() as client:
        model, version = version_of(client, name)
        recorded = client.models.evaluate(
            version, metric, value, model=model, dataset_digest=dataset, dataset_rows=rows, note=note
        )
    show_one(recorded, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def search(
    text: Annotated[str, typer.Argument(help="Part of a name, description, card, task or tag.")] = "",
    base_digest: Annotated[str, typer.Option("--base-digest", help="Base that it belongs to.")] = "",
    task: Annotated[str, typer.Option("--task", help="Task of its model.")] = "",
    with_tag: Annotated[str, typer.Option("--tag", help="A tag that it has.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="lora or full.")] = "",
    metric: Annotated[str, typer.Option("--metric", help="A metric that was measured.")] = "",
    least: Annotated[float | None, typer.Option("--least", help="Least value of the metric.")] = None,
    most: Annotated[float | None, typer.Option("--most", help="Most value of the metric.")] = None,
    dataset: Annotated[str, typer.Option("--dataset", help="Digest of the dataset measured or trained on.")] = "",
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
            base_digest=base_digest,
            task=task,
            tag=with_tag,
            kind=kind,
            metric=metric,
            least=least,
            most=most,
            dataset_digest=dataset,
            job=job,
            order=order,
        )
        rows = [_flat(item) for item in found]
    columns = _OF_FOUND if metric else tuple(column for column in _OF_FOUND if column != "value")
    show(rows, columns, json_wanted=json_wanted, empty="No version is like that.")


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    """A version that was found, on one line."""

    model: str
    number: int
    version: str
    kind: str
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
        version.tags,
        found.value,
        version.job,
        version.create_time,
    )


@app.command(epilog=EPILOG)
def canary(
    name: Annotated[str, typer.Argument(help="NAME or NAME@ALIAS; without an alias, prod.")],
    version: Annotated[str, typer.Argument(help="Number or digest of the version that gets the share.")],
    percent: Annotated[int, typer.Argument(min=0, max=100, help="Its share of requests; 0 ends it.")],
    etag: Annotated[str, typer.Option("--etag", help="Refuse when the alias changed since.")] = "",
    why: Why = "",
    json_wanted: Json = False,
) -> None:
    """Send a share of an alias's requests to another version; a caller stays with the version that it got.

    Example: trivium models canary desk 4 10
    """
    model, alias_id = alias_of(name)
    with Trivium() as client:
        moved = client.models.set_canary(model, version, percent, alias=alias_id, etag=etag, reason=why)
    if json_wanted:
        show_one(moved, json_wanted=True)
        return
    serving = f"{model}@{alias_id} serves {moved.serving_version}"
    columns = ("number", "percent", "state", "version", "reason")
    typer.echo(serving)
    show(moved.canaries, columns, json_wanted=False, empty="It has no canary.")


@app.command(epilog=EPILOG)
def keep(
    name: Annotated[str, typer.Argument(help="Model.")],
    last: Annotated[
        int | None, typer.Option("--last", min=0, help="Keep the newest so many; 0 bounds nothing.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", min=0, help="Keep those younger; 0 bounds nothing.")] = None,
    json_wanted: Json = False,
) -> None:
    """Say which versions of a model are kept; others are deleted in time, and can be restored for a week.

    What an alias, a child or a generator holds, what is tagged and what served before stays. With both bounds a
    version goes when it exceeds both.

    Example: trivium models keep desk --last 10
    """
    with Trivium() as client:
        show_one(client.models.update(name, keep_last=last, keep_days=days), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def restore(
    name: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for a deleted model.")],
    why: Why = "",
    json_wanted: Json = False,
) -> None:
    """Bring back what was deleted: a version, or a model with the versions that went with it.

    Example: trivium models restore desk@2
    """
    with Trivium() as client:
        if "@" in name:
            model, version = version_named(name)
            show_one(client.models.restore_version(version, model=model, reason=why), json_wanted=json_wanted)
        else:
            show_one(client.models.restore(name, reason=why), json_wanted=json_wanted)


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
        lines.append(f"made from the base {chosen.base_digest}" if chosen.base_digest else "made from nothing here")
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
