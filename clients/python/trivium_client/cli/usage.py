"""`trivium usage`: what was used, for whoever writes bills."""

import csv
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from enum import Enum
from itertools import chain
from typing import Annotated, Any

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.metering import UsageLine

app = typer.Typer(
    no_args_is_help=True, help="What was used.\n\nExample: trivium usage export --by model --by day", epilog=EPILOG
)
_NAMES = tuple(field.name for field in fields(UsageLine))
_SUMS = ("requests", "prompt_tokens", "completion_tokens", "cost_micros")


class Format(Enum):
    """How lines are written."""

    CSV = "csv"
    JSONL = "jsonl"


class Group(Enum):
    """By what they are summed."""

    KEY = "key"
    MODEL = "model"
    PROJECT = "project"
    DAY = "day"


_MOMENT = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


@app.callback()
def _noun() -> None:
    """A group, though it has one command."""


@app.command(epilog=EPILOG)
def export(
    form: Annotated[Format, typer.Option("--format", help="csv or jsonl.")] = Format.CSV,
    start: Annotated[
        datetime | None, typer.Option("--start", formats=_MOMENT, help="From this moment (UTC) on, say 2026-11-01.")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--end", formats=_MOMENT, help="Up to this moment (UTC), which is not in it.")
    ] = None,
    by: Annotated[
        list[Group] | None, typer.Option("--by", help="Sums over key, model, project or day; may be repeated.")
    ] = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Another tenant, for an admin.")] = "",
) -> None:
    """Write every request, or sums, to standard output.

    Example: trivium usage export --by model --by day --format csv
    """
    groups = [group.value for group in by or ()]
    with Trivium() as client:
        lines = client.usage.export(start=_in_utc(start), end=_in_utc(end), by=groups, tenant=tenant)
        names = (*groups, *_SUMS) if groups else _NAMES
        _write(form, names, _rows(lines, names))


def _in_utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _rows(lines: Iterable[UsageLine], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for line in lines:
        row = {name: getattr(line, name) for name in names}
        if "created" in row:
            row["created"] = line.created.isoformat() if line.created else ""
        yield row


def _write(form: Format, names: tuple[str, ...], rows: Iterator[dict[str, Any]]) -> None:
    if form is Format.JSONL:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    # What is refused is refused before a word of it is written.
    first = next(rows, None)
    writer.writeheader()
    writer.writerows(() if first is None else chain([first], rows))
