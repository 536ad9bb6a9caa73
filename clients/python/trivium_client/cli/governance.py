"""`trivium models`: what is decided about versions: tags, cards, measurements, canaries, retention, restoring."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from trivium_client import NotFoundError, Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.models import Why
from trivium_client.cli.naming import alias_of, dataset_digest, standing, version_named, version_of
from trivium_client.cli.printing import Json, as_json, counted, document, drawn, say, show
from trivium_client.nouns import Model, Version

app = typer.Typer(epilog=EPILOG)


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
        tagged = client.models.tag(version, model=model, add=tags or (), remove=remove or ())
    has = f"the tags {', '.join(tagged.tags)}" if tagged.tags else "no tags"
    typer.echo(as_json(tagged) if json_wanted else f"{model}@{tagged.number} has {has}.")


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
    text = None if file is None else _read(file)
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
def describe(
    name: Annotated[str, typer.Argument(help="Model.")],
    description: Annotated[str | None, typer.Option("--description", help="What it is for, in a sentence.")] = None,
    example: Annotated[
        list[str] | None, typer.Option("--example", help="A question that it is for; may be repeated.")
    ] = None,
    examples_file: Annotated[
        Path | None, typer.Option("--examples-file", help="Questions, one a line; - reads standard input.")
    ] = None,
    fallback: Annotated[
        str | None, typer.Option("--fallback", help="What answers where it cannot: base, or a model; empty ends it.")
    ] = None,
    json_wanted: Json = False,
) -> None:
    """Say what a model is for: `--model auto` goes by it. New examples replace all that it had; ten or more are good.

    Example: trivium models describe desk --description 'Ferry fares.' --example 'What is a day ticket?'
    """
    lines = [line.strip() for line in _read(examples_file).splitlines()] if examples_file else []
    given = [*(example or []), *filter(None, lines)]
    changed = any(value is not None for value in (description, example, examples_file, fallback))
    with Trivium() as client:
        if changed:
            examples = given if example or examples_file else None
            described = client.models.update(name, description=description, examples=examples, fallback=fallback)
        else:
            described = client.models.get(name)
    if json_wanted:
        typer.echo(as_json(described))
        return
    falls = f" Where it cannot answer, {described.fallback} does." if described.fallback else ""
    known = f"{counted(len(described.examples), 'example')}"
    typer.echo(f"{name}: {described.description or 'no description'} It has {known}.{falls}")


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8") from None


@app.command(epilog=EPILOG)
def evaluate(
    name: Annotated[str, typer.Argument(help="NAME@VERSION or NAME@ALIAS.")],
    metric: Annotated[str, typer.Argument(help="What was measured, for instance accuracy.")],
    value: Annotated[float, typer.Argument(help="Its value.")],
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset that it was measured on: id or digest.")] = "",
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows of that dataset.")] = 0,
    note: Annotated[str, typer.Option("--note", help="How it was measured.")] = "",
    json_wanted: Json = False,
) -> None:
    """Record a measurement of a version; nothing is ever replaced, the newest counts.

    Example: trivium models evaluate desk@3 accuracy 0.91 --dataset held-out
    """
    with Trivium() as client:
        model, version = version_of(client, name)
        recorded = client.models.evaluate(
            version,
            metric,
            value,
            model=model,
            dataset_digest=dataset_digest(client, dataset),
            dataset_rows=rows,
            note=note,
        )
    where = f" on {recorded.dataset_digest}" if recorded.dataset_digest else ""
    said = f"{name} has {recorded.metric} {recorded.value:g}{where}."
    typer.echo(as_json(recorded) if json_wanted else said)


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
        typer.echo(as_json(moved))
        return
    columns = ("number", "percent", "state", "version", "reason")
    say(standing(moved))
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
        kept = client.models.update(name, keep_last=last, keep_days=days)
    typer.echo(as_json(kept) if json_wanted else f"{name} keeps {_kept(kept)}.")


def _kept(model: Model) -> str:
    bounds = [f"its newest {model.keep_last}"] if model.keep_last else []
    bounds += [f"those younger than {counted(model.keep_days, 'day')}"] if model.keep_days else []
    return " and ".join(bounds) or "every version"


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
            back = not _there(lambda: client.models.version(version, model=model))
            restored: Version | Model = client.models.restore_version(version, model=model, reason=why)
        else:
            before, back = _deleted(client, name), not _there(lambda: client.models.get(name))
            restored = client.models.restore(name, reason=why)
            back = back or _deleted(client, name) != before
    said = f"Restored {name}." if back else f"{name} is not deleted; there is nothing to restore."
    typer.echo(as_json(restored) if json_wanted else said)


def _there(read: Callable[[], Version | Model]) -> bool:
    """Whether what is read is there and not deleted."""
    try:
        read()
    except NotFoundError:
        return False
    return True


def _deleted(client: Trivium, model: str) -> frozenset[str]:
    """The versions of a model that can be restored; some went with a model that is back since."""
    versions = drawn(client.models.versions(model, show_deleted=True))
    return frozenset(version.version for version in versions if version.purge_time)
