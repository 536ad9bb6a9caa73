"""Records: what the rows of a dataset are made of, whichever kind of file they lie in.

Invariant: the fields of a record are what JSON can say (texts, numbers, true and false, lists, objects), so that
nothing behind this knows a file's kind.
"""

from dataclasses import dataclass
from enum import StrEnum

# A longer record is no training row but a file that lost its line breaks.
MAX_RECORD_BYTES = 1024 * 1024
# What some editors put in front of UTF-8.
BOM = b"\xef\xbb\xbf"


class FileType(StrEnum):
    """Kinds of files."""

    JSON_LINES = "json_lines"
    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: the line that it begins on (in Parquet: its row), from 1, and its fields."""

    line: int
    fields: dict[str, object]
