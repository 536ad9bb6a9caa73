"""How results are shown: a table to people, one JSON object or one a line to programs, bars on a terminal.

Invariant: what somebody could copy stands whole on one line.  A row that is too long for the
terminal goes on in a second line, between two cells; only free text is cut, with an ellipsis, or
folded below its row where all of it must be read.
Where no terminal limits the width, nothing is.  A sentence that is too long for it names versions by the digits that
commands need.
"""

import dataclasses
import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_FREE_TEXT = {"description", "detail", "note", "reason", "title"}
# Free text is not cut below this, in cells of a terminal.
_LEAST_FREE_TEXT = 20
# Eight digits or more of a version's digest name it; twelve leave no other in sight.
_VERSION_DIGITS = 12
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# Of work that has no terminal to draw on.
_LINE_SECONDS = 15.0
_GAP = "  "
_INDENT = "    "


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


def show(records: Sequence[Any], columns: Sequence[str], *, json_wanted: bool, empty: str, below: str = "") -> None:
    """Print records: a JSON list, or a table of the named fields (`empty` when there are none).

    `below` names a field whose text stands below its record's row on a terminal, folded, and in a last column elsewhere.
    """
    if json_wanted:
        typer.echo(as_json(list(records)))
        return
    if not records:
        typer.echo(empty)
        return
    headings, *rows = table(records, columns, _terminal_width(), below)
    typer.echo(typer.style(headings, bold=True))
    for row in rows:
        typer.echo(row)


def table(records: Sequence[Any], columns: Sequence[str], width: int | None, below: str = "") -> list[str]:
    """The headings, then a text for each record, of as many lines as a terminal of `width` cells needs; None: one.

    `below` is as `show` has it.  A version's digest is whole where every row then fits on one line, and else as short as commands still take it.
    """
    if below and width is not None:
        headings, *above = table(records, columns, width)
        folded = [_folded(cell(getattr(record, below)), width) for record in records]
        return [headings, *("\n".join([row, *lines]) for row, lines in zip(above, folded, strict=True))]
    if below:
        columns = [*columns, below]
    rows = [[cell(getattr(record, column)) for column in columns] for record in records]
    widths = _widths(columns, rows)
    if width is None:
        return [_row(row, [list(range(len(columns)))], widths) for row in [columns, *rows]]
    if _length(widths) > width:
        named = [at for at, column in enumerate(columns) if column.endswith("version")]
        rows = [[_shortened(text) if at in named else text for at, text in enumerate(row)] for row in rows]
        widths = _widths(columns, rows)
    for at, column in enumerate(columns):
        if column in _FREE_TEXT and (excess := _length(widths) - width) > 0:
            widths[at] = min(widths[at], max(widths[at] - excess, _LEAST_FREE_TEXT))
    lines = _lines(widths, width)
    return [_row(row, lines, widths) for row in [columns, *rows]]


def _folded(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, _LEAST_FREE_TEXT), initial_indent=_INDENT, subsequent_indent=_INDENT)


def _shortened(text: str) -> str:
    return text[: len("sha256:") + _VERSION_DIGITS] if text.startswith("sha256:") else text


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(cell_len(row[at]) for row in [columns, *rows]) for at in range(len(columns))]


def _length(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _lines(widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand on which line: each on the present one while it fits, else on a new, indented one."""
    lines: list[list[int]] = [[]]
    for at in range(len(widths)):
        indent = len(_INDENT) if len(lines) > 1 else 0
        if lines[-1] and indent + _length([widths[before] for before in lines[-1]] + [widths[at]]) > width:
            lines.append([])
        lines[-1].append(at)
    return lines


def _row(row: Sequence[str], lines: Sequence[Sequence[int]], widths: Sequence[int]) -> str:
    texts = [_GAP.join(_fitted(row[at], widths[at]) for at in line).rstrip() for line in lines]
    # A line of which this record has nothing to say is left out.
    return f"\n{_INDENT}".join([texts[0], *filter(None, texts[1:])])


def _fitted(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _terminal_width(*, err: bool = False) -> int | None:
    stream = sys.stderr if err else sys.stdout
    return shutil.get_terminal_size().columns if stream.isatty() else None


def say(sentence: str, *, err: bool = False) -> None:
    """Print a sentence, its digests as those of versions where it would be too long for the terminal."""
    width = _terminal_width(err=err)
    typer.echo(sentence if width is None else fitted(sentence, width), err=err)


def fitted(sentence: str, width: int) -> str:
    """The sentence with every digest whole, or where it has more than `width` cells as short as commands take it."""
    if cell_len(sentence) <= width:
        return sentence
    return _DIGEST.sub(lambda found: _shortened(found.group()), sentence)


def show_one(record: Any, *, json_wanted: bool) -> None:
    """Print one record: a JSON object, or a line for each field that says something."""
    if json_wanted:
        typer.echo(as_json(record))
        return
    for line in told(record, _terminal_width()):
        typer.echo(line)


def told(record: Any, width: int | None) -> list[str]:
    """A line for each field of a record that says something; what is itself made of fields stands below, indented."""
    values = _fields(record)
    widest = max(map(len, values), default=0)
    lines = []
    for name, value in values.items():
        if below := _below(value, width and width - len(_INDENT)):
            lines += [name, *(f"{_INDENT}{line}" for line in below)]
        else:
            lines.append(f"{name:<{widest}}{_GAP}{cell(value)}")
    return lines


def _fields(record: Any) -> dict[str, Any]:
    pairs = record.items() if isinstance(record, dict) else _by_name(record)
    return {str(name): value for name, value in pairs if not _silent(value)}


def _silent(value: Any) -> bool:
    """Whether a value says nothing: an empty one, or a record of such."""
    record = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return not _fields(value) if record else value in ("", None, (), {}, [])


def _by_name(record: Any) -> Iterable[tuple[str, Any]]:
    return ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))


def _below(value: Any, width: int | None) -> list[str]:
    """The lines of a value that is a record, or several: those as a table of what any of them says."""
    if isinstance(value, dict) or dataclasses.is_dataclass(value):
        return told(value, width)
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        columns = [name for name, _ in _by_name(value[0]) if any(name in _fields(each) for each in value)]
        return [line for row in table(value, columns, width) for line in row.splitlines()]
    return []


def counted(count: int, noun: str) -> str:
    """A number of things: 1 row, 2 rows."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def cell(value: Any) -> str:
    """One value as text on one line."""
    if value in (None, (), [], {}):
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.4g}"
    several = isinstance(value, tuple | list)
    if several and all(isinstance(item, str) for item in value):
        text = ", ".join(value)
    else:
        text = as_json(value) if several or isinstance(value, dict) or dataclasses.is_dataclass(value) else str(value)
    # A line feed would break the table, and an escape sequence in somebody's title would command the terminal.
    return "".join(letter if letter.isprintable() else " " for letter in text)


def document(text: str) -> str:
    """Somebody's text as it is to be read, of many lines; what would command the terminal is left out."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t").rstrip()


class _Done(MofNCompleteColumn):
    """How much is done; nothing while nobody knows of how much."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class _Bars(Progress):
    """Bars on a terminal; elsewhere a line now and then, so that a log shows that something goes on."""

    _told: float | None = None

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """As rich has it."""
        super().update(task_id, **changes)
        now = time.monotonic()
        self._told = now if self._told is None else self._told
        if self.disable and now - self._told >= _LINE_SECONDS:
            self._told = now
            task = next(task for task in self.tasks if task.id == task_id)
            whole = f": {task.completed:.0f} of {task.total:.0f}" if task.total else ""
            typer.echo(f"{task.description}{whole}", err=True)


def bars() -> Progress:
    """Progress bars on a terminal; elsewhere a line to standard error every 15 seconds."""
    return _Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        _Done(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def drawn(records: Iterable[Any]) -> list[Any]:
    """An iterator of the SDK, drawn to its end."""
    return list(records)
