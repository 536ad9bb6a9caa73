"""Records of a JSON Lines file: one object a line, blank lines passed over.

Invariant: however long a line is, no more of it than a record may have is ever in memory, and the lines behind it
keep their numbers.
"""

import json
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from services.trainer.data.records import BOM, MAX_RECORD_BYTES, Record
from services.trainer.data.rows import Malformed, Problem, kind_of


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of `file`; of one that is too long its beginning alone, which `too_long` tells."""
    while line := file.readline(MAX_RECORD_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and line:
            line = file.readline(MAX_RECORD_BYTES)


def too_long(line: bytes) -> bool:
    """Whether a line has more than a record may."""
    return len(line.removesuffix(b"\n").removesuffix(b"\r")) > MAX_RECORD_BYTES


def read_json_lines(lines: Iterable[bytes]) -> Iterator[Record | Problem]:
    """Yield each line as a record or as a problem."""
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(BOM) if number == 1 else line
        if not too_long(text) and not text.strip():
            continue
        try:
            yield Record(number, _object(text))
        except Malformed as problem:
            yield problem.at(number)


def _object(line: bytes) -> dict[str, object]:
    if too_long(line):
        raise Malformed("", f"the line has more than {MAX_RECORD_BYTES} bytes; put one row on each line")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise Malformed("", f"byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise Malformed("", f"not JSON at column {error.colno} ({error.msg}); write one JSON object a line") from error
    except (RecursionError, ValueError) as error:
        raise Malformed("", "the JSON is nested too deeply or holds too long a number; flatten it") from error
    if not isinstance(value, dict):
        raise Malformed("", f"a JSON object is needed, this is {kind_of(value)}; write one object a line")
    return value
