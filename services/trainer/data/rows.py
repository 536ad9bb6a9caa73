"""Read a dataset's lines and say, line by line, what is wrong and what to do about it.

Invariant: a row that comes out of here can be trained on; every row that cannot is
named by its line in the file, counted from 1.  However long a line is, no more of it than
a row may have is ever in memory.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import BinaryIO

# A longer line is no training row but a file that lost its line breaks.
MAX_LINE_BYTES = 1024 * 1024
# Finding what the assistant says renders the conversation up to each of its turns: the cost grows with the square.
MAX_TURNS = 512
ROLES = ("system", "user", "assistant", "tool")


class Format(StrEnum):
    """How rows are written."""

    CHAT = "chat"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"
    PREFERENCE = "preference"


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn from: what the assistant says in it."""

    line: int
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a row: its line, the field concerned, what to do."""

    line: int
    field: str
    message: str
    fatal: bool = True


class _Malformed(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


_SHAPES = {
    "messages": Format.CHAT,
    "prompt": Format.PROMPT_COMPLETION,
    "text": Format.TEXT,
    "chosen": Format.PREFERENCE,
}


def bounded(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of `file`; of one that is too long its beginning alone, which `read` refuses."""
    while line := file.readline(MAX_LINE_BYTES + 2):
        yield line
        while not line.endswith(b"\n") and line:
            line = file.readline(MAX_LINE_BYTES)


def read(lines: Iterable[bytes], expected: Format | None = None) -> Iterator[Row | Problem]:
    """Yield each line as a row or as a problem; blank lines are passed over.

    `expected` is the format that the uploader named; without it the first good row decides,
    so that one file never mixes two.
    """
    for number, line in enumerate(lines, start=1):
        if not _too_long(line) and not line.strip():
            continue
        try:
            fields = _object(line)
            kind = _recognised(fields)
            expected = expected or kind
            if kind is not expected:
                raise _Malformed(
                    "", f"this row is {kind}, the file is {expected}; put each format into a file of its own"
                )
            yield Row(number, _turns(fields, kind))
        except _Malformed as problem:
            yield Problem(number, problem.field, problem.message)


def recognise(line: bytes) -> Format | None:
    """Return the format of one line, or None when it has none."""
    try:
        return _recognised(_object(line))
    except _Malformed:
        return None


def _too_long(line: bytes) -> bool:
    return len(line.removesuffix(b"\n").removesuffix(b"\r")) > MAX_LINE_BYTES


def _object(line: bytes) -> dict[str, object]:
    if _too_long(line):
        raise _Malformed("", f"the line has more than {MAX_LINE_BYTES} bytes; put one row on each line")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _Malformed("", f"byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise _Malformed("", f"not JSON at column {error.colno} ({error.msg}); write one JSON object a line") from error
    except (RecursionError, ValueError) as error:
        raise _Malformed("", "the JSON is nested too deeply or holds too long a number; flatten it") from error
    if not isinstance(value, dict):
        raise _Malformed("", f"a JSON object is needed, this is {_kind(value)}")
    return value


def _recognised(fields: dict[str, object]) -> Format:
    # "chosen" first: a preference row has a prompt too.
    for key in ("chosen", "messages", "prompt", "text"):
        if key in fields:
            return _SHAPES[key]
    # Names are the uploader's, of any number, length and content.
    known = ", ".join(name[:40].encode(errors="replace").decode() for name in sorted(fields)[:10]) or "none"
    raise _Malformed("", f'the row needs "messages", or "prompt" and "completion"; its fields are: {known}')


def _turns(fields: dict[str, object], kind: Format) -> tuple[Turn, ...]:
    if kind is Format.CHAT:
        turns = _messages(fields["messages"], "messages")
    elif kind is Format.PROMPT_COMPLETION:
        if "completion" not in fields:
            raise _Malformed("completion", 'the row has a "prompt" and no "completion"; add what should be answered')
        turns = _side(fields["prompt"], "prompt", "user") + _side(fields["completion"], "completion", "assistant")
    else:
        raise _Malformed(
            "", f'rows of the format {kind} are not trained on yet; write "messages" or "prompt" and "completion"'
        )
    if len(turns) > MAX_TURNS:
        raise _Malformed(
            "messages", f"the row has {len(turns)} messages, at most {MAX_TURNS} fit; split the conversation into rows"
        )
    if not any(turn.role == "assistant" and turn.content.strip() for turn in turns):
        raise _Malformed("messages", "no message of the role assistant has content; there is nothing to learn")
    if turns[-1].role != "assistant":
        raise _Malformed(
            "messages", f"the last message is of the role {turns[-1].role}; end with the assistant's answer"
        )
    if turns[0].role == "assistant":
        raise _Malformed("messages", "the assistant speaks first; begin with what it answers to")
    return turns


def _side(value: object, field: str, role: str) -> tuple[Turn, ...]:
    if isinstance(value, str):
        if not value.strip():
            raise _Malformed(field, "the text is empty; write it or drop the row")
        return (Turn(role, _whole(value, field)),)
    return _messages(value, field)


def _messages(value: object, field: str) -> tuple[Turn, ...]:
    if not isinstance(value, list) or not value:
        raise _Malformed(field, f"a list with at least one message is needed, this is {_kind(value)}")
    return tuple(_turn(entry, f"{field}[{index}]") for index, entry in enumerate(value))


def _turn(entry: object, field: str) -> Turn:
    if not isinstance(entry, dict):
        raise _Malformed(field, f'a message is an object with "role" and "content", this is {_kind(entry)}')
    role, content = entry.get("role"), entry.get("content")
    if role not in ROLES:
        said = json.dumps(role[:40]) if isinstance(role, str) else _kind(role)
        raise _Malformed(f"{field}.role", f"the role is {said}, it must be one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise _Malformed(f"{field}.content", f"the content must be text, this is {_kind(content)}")
    return Turn(role, _whole(content, f"{field}.content"))


def _whole(text: str, field: str) -> str:
    """Return the text.  JSON can write half a character, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise _Malformed(field, f"{half} is half a character; write both halves or the character itself") from error
    return text


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return {"dict": "an object", "str": "a text", "bool": "true or false"}.get(type(value).__name__, "a number")
