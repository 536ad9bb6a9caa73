"""What is the same of two answers that tell nothing apart, and what of an answer was another's.

A refusal is compared whole: code, reason, sentence and variables, or status, headers and body, where what the caller sent
and the call's own number are replaced.  Of an answer the fields are compared that say anything.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import Message

from tests.security.crossing.doors import Heard
from tests.security.crossing.surface import Answered
from tests.security.crossing.treasure import told

_CORRELATION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

# As far as refusals show a text of the caller's that may be long.
_SHOWN_LENGTHS = (64, 128)

Same = tuple[str, ...]


def same(answer: Answered | Heard, sent: Sequence[str]) -> Same:
    """What must be the same for a thing of another's and one that never was."""
    if answer.is_answer:
        return ("OK", *sorted(set(_paths_of(answer))))
    if isinstance(answer, Heard):
        parts = [str(answer.status), answer.body, *(f"{name}: {value}" for name, value in answer.headers)]
    else:
        parts = [answer.code, answer.reason, answer.sentence, *answer.variables]
    return tuple(_without(part, sent) for part in parts)


def said_by(answer: Answered | Heard) -> list[str]:
    """Every text in an answer or a refusal."""
    if isinstance(answer, Heard):
        return [answer.body, *(value for _, value in answer.headers)]
    return [*(value for _, value in told(answer)), answer.sentence, *answer.variables]


def _without(text: str, sent: Sequence[str]) -> str:
    # Of what stands in a folder some answers name the last part alone.
    parts = {*sent, *(value.rpartition("/")[2] for value in sent)} - {""}
    # And of a long text the beginning.
    parts |= {value[:length] for value in sent for length in _SHOWN_LENGTHS if len(value) > length}
    for value in sorted(parts, key=len, reverse=True):
        text = text.replace(value, "VALUE").replace(json.dumps(value)[1:-1], "VALUE")
    return _CORRELATION.sub("ID", text)


def _paths_of(answer: Answered | Heard) -> Iterator[str]:
    if isinstance(answer, Heard):
        try:
            yield from _keys(json.loads(answer.body))
        except ValueError:
            yield "text" if answer.body else ""
        return
    for message in answer.messages:
        yield from _fields(message)


def _keys(told: Any, path: str = "") -> Iterator[str]:
    if isinstance(told, dict):
        for name, value in told.items():
            yield from _keys(value, f"{path}.{name}")
    elif isinstance(told, list):
        for value in told:
            yield from _keys(value, path)
    elif told:
        yield path


def _fields(message: Message, path: str = "") -> Iterator[str]:
    for field, value in message.ListFields():
        yield f"{path}.{field.name}"
        if field.message_type and not field.message_type.GetOptions().map_entry:
            for member in value if field.is_repeated else [value]:
                yield from _fields(member, f"{path}.{field.name}")
