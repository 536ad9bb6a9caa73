"""How results are shown: a table to people, one JSON object or one a line to programs, bars on a terminal only."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

console = Console()


def as_json(value: Any) -> str:
    """A record, or a list of them, as JSON on one line."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def show(records: Sequence[Any], columns: Sequence[str], *, json_wanted: bool, empty: str) -> None:
    """Print records: a JSON list, or a table of the named fields (`empty` when there are none)."""
    if json_wanted:
        typer.echo(as_json(list(records)))
        return
    if not records:
        typer.echo(empty)
        return
    table = Table(*columns, box=None, pad_edge=False)
    for record in records:
        table.add_row(*(cell(getattr(record, column)) for column in columns))
    console.print(table)


def show_one(record: Any, *, json_wanted: bool) -> None:
    """Print one record: a JSON object, or a line for each field that says something."""
    if json_wanted:
        typer.echo(as_json(record))
        return
    table = Table.grid(padding=(0, 2))
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if value not in ("", None, (), {}):
            table.add_row(field.name, cell(value, whole=True))
    console.print(table)


def cell(value: Any, *, whole: bool = False) -> str:
    """One value as text; digests are shortened unless `whole`."""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, str) and value.startswith("sha256:") and not whole:
        return value[:19]
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | tuple | list) or dataclasses.is_dataclass(value):
        return as_json(value)
    return str(value)


def bars() -> Progress:
    """Progress bars on a terminal; nothing elsewhere, so that logs and pipes stay clean."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def drawn(records: Iterable[Any]) -> list[Any]:
    """An iterator of the SDK, drawn to its end."""
    return list(records)
