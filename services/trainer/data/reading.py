"""Read a dataset, of whichever kind of file, and say row by row what is wrong and what to do about it.

The library `datasets` is not what reads: it stops at the first bad record of a file and writes the whole of it anew into
a cache, where people are owed every problem with its line, in a few records' memory, and an upload is checked in a child
that can write no file (`checker`).  What a row may be follows TRL's formats, plain and conversational: language
modelling, prompt and completion, preference with a prompt or with what both sides begin with, unpaired preference.
Records for recipes are ours.

Invariant: a file's kind is told by its bytes, never by its name; any bytes at all end in rows and problems.
"""

from collections.abc import Iterator
from typing import BinaryIO

from services.trainer.data.converting import recognised, row_of
from services.trainer.data.csv_records import columns_of, delimiter_of, read_csv
from services.trainer.data.json_records import bounded, read_json_lines
from services.trainer.data.parquet_records import MAGIC, read_parquet
from services.trainer.data.records import BOM, MAX_RECORD_BYTES, FileType, Record
from services.trainer.data.rows import AnyRow, Format, Malformed, Problem, named

# Files that are none of ours, by how they begin, and what to do with them.
_FOREIGN = {
    b"PK\x03\x04": "this is a ZIP or Excel file; save it as CSV, or unpack it",
    b"\x1f\x8b": "this is a gzip file; unpack it",
    b"\x28\xb5\x2f\xfd": "this is a Zstandard file; unpack it",
    b"ARROW1": "this is an Arrow file; save it as Parquet",
    b"\xff\xfe": "this is UTF-16, not UTF-8; save the file as UTF-8",
    b"\xfe\xff": "this is UTF-16, not UTF-8; save the file as UTF-8",
}


def file_type(file: BinaryIO) -> FileType:
    """Return what kind of file this is, by its beginning; what is none of them is taken for JSON Lines."""
    file.seek(0)
    head = file.read(len(MAGIC))
    file.seek(0)
    if head == MAGIC:
        return FileType.PARQUET
    return FileType.CSV if _delimiter(file) else FileType.JSON_LINES


def records(file: BinaryIO) -> Iterator[Record | Problem]:
    """Yield every record of `file`, from its beginning, or what is wrong with it."""
    kind = file_type(file)
    file.seek(0)
    if kind is FileType.PARQUET:
        yield from read_parquet(file)
        return
    head = file.read(8)
    file.seek(0)
    for begins, message in _FOREIGN.items():
        if head.startswith(begins):
            yield Problem(1, "", message, whole=True)
            return
    delimiter = _delimiter(file)
    if not delimiter and (message := _mistaken(file)):
        # Of each of its lines the same would be said, and never what to do.
        yield Problem(1, "", message, whole=True)
        return
    file.seek(0)
    yield from read_csv(file, delimiter) if delimiter else read_json_lines(bounded(file))


def read(file: BinaryIO, expected: Format | None = None) -> Iterator[AnyRow | Problem]:
    """Yield each record of `file` as a row or as a problem.

    `expected` is the format that the uploader named; without it the first record that has one decides, so that one
    file never mixes two.
    """
    for record in records(file):
        if isinstance(record, Problem):
            yield record
            continue
        try:
            kind = recognised(record.fields)
            expected = expected or kind
            if kind is not expected:
                raise Malformed(
                    "", f"this row is {kind}, the file is {expected}; put each format into a file of its own"
                )
            yield row_of(record.line, record.fields, kind)
        except Malformed as problem:
            yield problem.at(record.line)


def recognise(file: BinaryIO) -> Format | None:
    """Return the format of the first record that has one; None where none has."""
    for record in records(file):
        if isinstance(record, Record):
            try:
                return recognised(record.fields)
            except Malformed:
                continue
    return None


def _mistaken(file: BinaryIO) -> str:
    """What to do with a file that is plainly something else than JSON Lines; empty where it may be these."""
    file.seek(0)
    lines = [file.readline(MAX_RECORD_BYTES).removeprefix(BOM).strip(), file.readline(MAX_RECORD_BYTES).strip()]
    if lines[0][:1] == b"[" and lines[0][1:].lstrip()[:1] in (b"", b"{") and not lines[0].endswith(b"]"):
        return "this is one JSON list; write each of its objects on a line of its own, e.g. with jq -c '.[]' FILE"
    if columns := columns_of(*lines):
        return (
            f"this is a CSV file whose columns are {named(columns)}; call what is asked prompt and what is answered "
            "completion, or a text and its label text and label"
        )
    return ""


def _delimiter(file: BinaryIO) -> str | None:
    """What separates cells where the first line is the header of a CSV file; None where it is not."""
    file.seek(0)
    line = file.readline(MAX_RECORD_BYTES)
    if line.removeprefix(BOM).lstrip()[:1] in (b"{", b"["):
        return None
    return delimiter_of(line)
