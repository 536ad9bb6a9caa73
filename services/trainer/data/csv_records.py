"""Records of a CSV file: a header of field names, then a record each, whose quoted cells may hold line breaks.

Invariants: a record is named by the line that it begins on; no record is in memory beyond its limit, also where a
quotation mark is missing and the rest of the file would be one cell.  Cells are texts: those that can only be JSON
(messages, outputs, labels of answers) are read as JSON.
"""

import csv
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from services.trainer.data.json_records import bounded, too_long
from services.trainer.data.records import BOM, MAX_RECORD_BYTES, Record
from services.trainer.data.rows import FIELDS, TOOLS, Malformed, Problem, named

_DELIMITERS = (",", ";", "\t")
# Sides of a row may be texts or lists of messages.
_SIDES = frozenset({"prompt", "completion", "chosen", "rejected"})
# What people call a column, and no sentence nor JSON begins with.
_COLUMN = re.compile(r"\w[\w .#/()-]{0,39}")
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class _Lines:
    """The lines of a file as texts.  What is not UTF-8 comes as half characters, which no UTF-8 holds.

    Unlike a generator it can be asked again after it raised.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._lines = bounded(file)
        self.number = 0
        self._record_bytes = 0

    def begin(self) -> int:
        """Begin a record; return the number of its first line."""
        self._record_bytes = 0
        return self.number + 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._record_bytes += len(line)
        if too_long(line) or self._record_bytes > MAX_RECORD_BYTES:
            raise Malformed(
                "",
                f"the record that begins here has more than {MAX_RECORD_BYTES} bytes; is a quotation mark missing?",
            )
        return (line.removeprefix(BOM) if self.number == 1 else line).decode("utf-8", "surrogateescape")


def delimiter_of(header: bytes) -> str | None:
    """Return what separates the cells of a header that names a field of ours; None where it names none."""
    text = header.removeprefix(BOM).decode("utf-8", "replace")
    for delimiter in _DELIMITERS:
        with suppress(csv.Error, StopIteration):
            if any(_name(cell) in FIELDS for cell in next(csv.reader([text], delimiter=delimiter))):
                return delimiter
    return None


def columns_of(header: bytes, record: bytes) -> list[str]:
    """The columns of what can only be the header of a CSV file, none of them ours; empty for anything else."""
    for delimiter in _DELIMITERS:
        with suppress(csv.Error, StopIteration, UnicodeDecodeError):
            names, cells = (next(csv.reader([line.decode()], delimiter=delimiter)) for line in (header, record))
            # A quoted cell may go on behind the line.
            alike = len(names) == len(cells) or b'"' in record
            if len(names) > 1 and alike and all(_COLUMN.fullmatch(name.strip()) for name in names):
                return names
    return []


def read_csv(file: BinaryIO, delimiter: str) -> Iterator[Record | Problem]:
    """Yield each record behind the header as a record or as a problem; blank lines are passed over."""
    lines = _Lines(file)
    # The limit of one cell is the process's; a record's own is smaller.
    csv.field_size_limit(max(csv.field_size_limit(), 2 * MAX_RECORD_BYTES))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        line = lines.begin()
        try:
            cells = next(reader)
            if header and cells:
                yield Record(line, _fields(header, cells))
            header = header or [_name(cell) for cell in cells]
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(line, "", f"not CSV ({error}); put quotation marks around the cell and double those in it")
        except Malformed as problem:
            yield problem.at(line)
        if not header:
            # Without names for its cells nothing of the file can be read.
            return


def _name(cell: str) -> str:
    lowered = cell.strip().lower()
    return lowered if lowered in (*FIELDS, *TOOLS) else cell.strip()


def _fields(header: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) != len(header):
        raise Malformed(
            "",
            f"the record has {len(cells)} cells, the header has {len(header)} ({named(header)}); "
            "put quotation marks around cells that hold the delimiter",
        )
    given = dict(zip(header, cells, strict=True))
    fields: dict[str, object] = {}
    for name, cell in given.items():
        try:
            cell.encode()
        except UnicodeEncodeError as error:
            raise Malformed(name, "the cell is not UTF-8; save the file as UTF-8") from error
        fields[name] = _value(name, cell, given)
    return fields


def _value(name: str, cell: str, given: dict[str, str]) -> object:
    if name == "messages":
        return _json(name, cell)
    if name == "label" and "completion" in given:
        return _TRUTHS.get(cell.strip().lower(), cell)
    start = cell.lstrip()
    listed = (name in _SIDES and start.startswith("[{")) or (name == "context" and start.startswith('["'))
    if listed or (name == "output" and start.startswith(("{", "["))):
        # A text may begin like this too; then it is a text.
        with suppress(Malformed):
            return _json(name, cell)
    return cell


def _json(name: str, cell: str) -> object:
    try:
        return json.loads(cell)
    except json.JSONDecodeError as error:
        raise Malformed(
            name, f'not JSON at character {error.pos + 1} ({error.msg}); write [{{"role": …, "content": …}}, …]'
        ) from error
    except (RecursionError, ValueError) as error:
        raise Malformed(name, "the JSON is nested too deeply or holds too long a number; flatten it") from error
