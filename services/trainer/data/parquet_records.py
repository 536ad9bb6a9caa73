"""Records of a Parquet file, a few at a time, and of its columns only those that say something here.

Invariant: what a file declares is taken for what it is, a claim: columns that nothing reads are never decoded, and a
cell is measured before anything else looks at it.  What unpacks to more than the reading process may have ends
that process (`checking_child`), never the service.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from services.trainer.data.records import MAX_RECORD_BYTES, Record
from services.trainer.data.rows import FIELDS, MAX_DEPTH, TOOLS, Malformed, Problem, named

MAGIC = b"PAR1"
# Rows that are decoded at once.
_BATCH_ROWS = 64
# What the file says of itself: names, types and places of its parts.
_MAX_FOOTER_BYTES = 16 * 1024 * 1024
_MAX_FOOTER_ENTRIES = 1_000_000
# Characters of what the reader says of a file.
_MAX_QUOTED = 200


def read_parquet(file: BinaryIO) -> Iterator[Record | Problem]:
    """Yield each row as a record or as a problem; a part that cannot be read ends the file with one."""
    import pyarrow

    number = 0
    try:
        for cells in _rows(file):
            number += 1
            try:
                yield Record(number, _fields(cells))
            except Malformed as problem:
                yield problem.at(number)
    except Malformed as problem:
        yield problem.at(1)
    except MemoryError:
        # Also pyarrow's own: what this process may have is somebody else's to say.
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, RecursionError, TypeError) as error:
        why = str(error).replace("\n", " ")[:_MAX_QUOTED].encode(errors="replace").decode()
        yield Problem(number + 1, "", f"from this row on the Parquet file cannot be read ({why}); write it again")


def _rows(file: BinaryIO) -> Iterator[dict[str, object]]:
    from pyarrow import parquet

    opened: Any = parquet.ParquetFile(
        file,
        pre_buffer=False,
        thrift_string_size_limit=_MAX_FOOTER_BYTES,
        thrift_container_size_limit=_MAX_FOOTER_ENTRIES,
    )
    names: list[str] = opened.schema_arrow.names
    columns = [name for name in names if name.strip().lower() in (*FIELDS, *TOOLS)]
    if not any(name.strip().lower() in FIELDS for name in columns):
        raise Malformed("", f"no column is one of {', '.join(FIELDS)}; the columns are: {named(names)}")
    # Part by part, so that a damaged one costs none of those before it.
    for group in range(opened.num_row_groups):
        for batch in opened.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
            for index in range(batch.num_rows):
                yield {name: batch.column(place)[index].as_py() for place, name in enumerate(batch.schema.names)}


def _fields(cells: dict[str, object]) -> dict[str, object]:
    """The cells as JSON says them.  A cell without a value is a field that is not there."""
    fields = {name.strip().lower(): _plain(name, value, depth=0) for name, value in cells.items() if value is not None}
    if len(json.dumps(fields, ensure_ascii=False).encode(errors="surrogatepass")) > MAX_RECORD_BYTES:
        raise Malformed("", f"the row has more than {MAX_RECORD_BYTES} bytes; split it")
    if fields.get("messages") is not None and isinstance(fields["messages"], str):
        fields["messages"] = _from_json(fields["messages"])
    return fields


def _plain(name: str, value: Any, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise Malformed(name, "the column is nested too deeply; flatten it")
    if isinstance(value, dict):
        return {str(key): _plain(name, entry, depth + 1) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [_plain(name, entry, depth + 1) for entry in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise Malformed(name, "the cell is not UTF-8; write the column as texts") from error
    return value if isinstance(value, str | bool | int | float) or value is None else str(value)


def _from_json(text: str) -> object:
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:
        raise Malformed("messages", "the text is not JSON; write a list of messages") from error
