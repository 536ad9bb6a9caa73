"""CSV and TSV to rows that name their columns.

Invariant: a row of the file is one unit of the text; a first row that looks like names is repeated in every row, so
that each can be read, found and cited by itself.
"""

import csv
import io
from collections.abc import Iterator

from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted, Writer

_DELIMITERS = ",;\t|"
_SAMPLE_LINES = 50
_MOST_FIELD_CHARACTERS = 1024 * 1024
_MOST_COLUMNS = 10_000


def converted(text: str, delimiter: str, writer: Writer) -> Converted:
    """The file as text; an empty ``delimiter`` is found out.  Raises Unreadable."""
    rows = _rows(text, delimiter or _delimiter(text))
    first = next(rows, None)
    if first is not None:
        named = _are_names(first)
        if not named:
            writer.record([("", cell) for cell in first])
        for row in rows:
            writer.records(first if named else (), [row])
        if named and not writer.length:
            writer.record([("", cell) for cell in first])
    return writer.finish()


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    """The rows that hold something."""
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begun = 1
    try:
        for row in reader:
            if len(row) > _MOST_COLUMNS:
                raise Unreadable(f"line {begun} has {len(row)} columns", "Send tables of fewer columns.")
            if any(cell.strip() for cell in row):
                yield row
            begun = reader.line_num + 1
    except csv.Error:
        problem = f"a field that begins in line {begun} has more than {_MOST_FIELD_CHARACTERS} characters"
        raise Unreadable(problem, "Look for a quotation mark that is never closed.") from None


def _delimiter(text: str) -> str:
    """The one that cuts the first lines into the most columns, all alike."""
    sample = text[:65536].splitlines()[:_SAMPLE_LINES]

    def evenness(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            return 0.0, 0
        usual = max(set(widths), key=widths.count) if widths else 0
        return (widths.count(usual) / len(widths) if usual > 1 else 0.0), usual

    return max(_DELIMITERS, key=evenness)


def _are_names(row: list[str]) -> bool:
    """Whether a first row names its columns: every cell has a text of its own that is no number."""
    cells = [cell.strip() for cell in row]
    return len(set(cells)) == len(cells) and all(cells) and not any(_is_number(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    return cell.lstrip("+-").replace(".", "").replace(",", "").isdigit()
