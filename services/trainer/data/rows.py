"""What a row of a dataset is, and what is said of a record that is none; `converting` makes the one or the other of it.

Invariant: rows of the same content are told to be the same wherever they stand, and a problem names its place in the
file, the field concerned and what to do.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from services.chassis.chat_tools import message_shown, tool_shown

# Finding what the assistant says renders the conversation up to each of its turns: the cost grows with the square.
MAX_TURNS = 512
# Objects and lists inside one another in a record that a template reads.
MAX_DEPTH = 32
ROLES = ("system", "user", "assistant", "tool")


class Format(StrEnum):
    """How rows are written: TRL's dataset formats, and records that a template makes rows of."""

    CHAT = "chat"
    PROMPT_COMPLETION = "prompt_completion"
    TEXT = "text"
    PREFERENCE = "preference"
    UNPAIRED_PREFERENCE = "unpaired_preference"
    RECORDS = "records"


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that a conversation offers; `parameters` is a JSON Schema of an object as text, empty where it takes none."""

    name: str
    description: str = ""
    parameters: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        """The tool as chat templates are given it."""
        return tool_shown(self.name, self.description, json.loads(self.parameters) if self.parameters else None)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; what is not ``learned`` is read and never taught.

    `calls` only of the assistant, `call_id` only of a tool: the call that it answers.
    """

    role: str
    content: str
    learned: bool = True
    calls: tuple[Call, ...] = ()
    call_id: str = ""

    @property
    def message(self) -> dict[str, Any]:
        """The turn as chat templates are given it."""
        calls = [(call.id, call.name, json.loads(call.arguments)) for call in self.calls]
        return message_shown(self.role, self.content, calls, self.call_id)

    @property
    def said(self) -> str:
        """All that is said and called in it, as one text."""
        return "\n".join(
            [*([self.content] if self.content else []), *(f"{it.name} {it.arguments}" for it in self.calls)]
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation to learn from: what the assistant says in it, and calls of the tools that it is offered."""

    line: int
    turns: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text to go on learning from as it is."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to the same prompt, of which one is better."""

    line: int
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """One answer to a prompt, and whether it is as wanted."""

    line: int
    prompt: tuple[Turn, ...]
    completion: tuple[Turn, ...]
    desirable: bool
    tools: tuple[Tool, ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """A record with named fields, of which a template makes a row: `fields` holds texts, numbers, lists, objects."""

    line: int
    fields: Mapping[str, object]


AnyRow = Row | Text | Preference | Judgement | Labelled


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a row: its line (of a Parquet file: its row), the field concerned, what to do.

    `whole`: it is wrong with the file, of which the line is only the first.
    """

    line: int
    field: str
    message: str
    fatal: bool = True
    whole: bool = False


class Malformed(Exception):
    """A record is no row: the field that says so, and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message

    def at(self, line: int) -> Problem:
        """The problem of the record that begins at `line`."""
        return Problem(line, self.field, self.message)


# Fields that say what a record is; a file with others beside them is none the worse.
FIELDS = (
    "messages",
    "prompt",
    "completion",
    "label",
    "text",
    "chosen",
    "rejected",
    "output",
    "question",
    "context",
    "answer",
)

# What conversations may carry beside these.
TOOLS = ("tools", "functions", "parallel_tool_calls")


def named(names: list[str]) -> str:
    """The first names, made fit to be said: they are the uploader's, of any number, length and content."""
    return ", ".join(name[:40].encode(errors="replace").decode() for name in sorted(names)[:10]) or "none"


def whole(text: str, field: str) -> str:
    """Return the text.  Raises Malformed for half a character, which JSON can write and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise Malformed(field, f"{half} is half a character; write both halves or the character itself") from error
    return text


def kind_of(value: object) -> str:
    """What JSON calls a value, with an article."""
    if value is None:
        return "missing"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return {"dict": "an object", "str": "a text", "bool": "true or false"}.get(type(value).__name__, "a number")


def identity(row: AnyRow) -> bytes:
    """Return 16 bytes that rows of the same content share, wherever in a file they stand."""
    return hashlib.blake2b(repr(replace(row, line=0)).encode(errors="surrogatepass"), digest_size=16).digest()
