"""Conversations in a record: messages as the field writes them, become turns.

Invariant: what comes out of here is text that a template can render, with nothing lost of what a message says or does;
every message that is none raises Malformed, which names its place in the record and what to do.
"""

import json
from collections.abc import Mapping

from services.trainer.data.rows import MAX_TURNS, ROLES, Malformed, Turn, kind_of, whole
from services.trainer.data.tools import Offered

# Newer files call the system so.
_DEVELOPER = "developer"


def answered(turns: tuple[Turn, ...], *, field: str = "messages", said_from: int = 0) -> tuple[Turn, ...]:
    """Return the turns if from `said_from` on the assistant says something to be learned.  Raises Malformed."""
    if len(turns) > MAX_TURNS:
        raise Malformed(
            field, f"the row has {len(turns)} messages, at most {MAX_TURNS} fit; split the conversation into rows"
        )
    said = [turn for turn in turns[said_from:] if turn.role == "assistant" and turn.said.strip()]
    if not said:
        raise Malformed(field, "no message of the role assistant has content or calls; there is nothing to learn")
    if not any(turn.learned for turn in said):
        raise Malformed(field, "every answer has the weight 0; there is nothing to learn: drop the row")
    if turns[-1].role != "assistant":
        raise Malformed(field, f"the last message is of the role {turns[-1].role}; end with the assistant's answer")
    if turns[0].role == "assistant":
        raise Malformed(field, "the assistant speaks first; begin with what it answers to")
    return turns


def turns_of(value: object, field: str, role: str, offered: Offered) -> tuple[Turn, ...]:
    """One side of a record, a text that `role` says or a list of messages.  Raises Malformed."""
    if isinstance(value, str):
        return (Turn(role, filled(value, field)),)
    return messages(value, field, offered)


def filled(value: object, field: str) -> str:
    """Return the text.  Raises Malformed for an empty one, and for what is none."""
    if not isinstance(value, str):
        raise Malformed(field, f"a text is needed, this is {kind_of(value)}")
    if not value.strip():
        raise Malformed(field, "the text is empty; write it or drop the row")
    return whole(value, field)


def messages(value: object, field: str, offered: Offered) -> tuple[Turn, ...]:
    """Return the list's messages as turns; `offered` hears of each call in them.  Raises Malformed."""
    if not isinstance(value, list) or not value:
        raise Malformed(field, f"a list with at least one message is needed, this is {kind_of(value)}")
    return tuple(_turn(entry, f"{field}[{index}]", offered) for index, entry in enumerate(value))


def _turn(entry: object, field: str, offered: Offered) -> Turn:
    if not isinstance(entry, dict):
        raise Malformed(field, f'a message is an object with "role" and "content", this is {kind_of(entry)}')
    role, content = entry.get("role"), _joined(entry.get("content"), field)
    if role == _DEVELOPER:
        role = "system"
    if role not in ROLES:
        said = json.dumps(role[:40]) if isinstance(role, str) else kind_of(role)
        raise Malformed(f"{field}.role", f"the role is {said}, it must be one of {', '.join(ROLES)}")
    calls = offered.calls_of(entry, role, field)
    call_id = offered.answered_by(entry, role, field)
    learned = role != "assistant" or _learned(entry, field)
    if calls and not content:
        content = ""
    if not isinstance(content, str):
        raise Malformed(f"{field}.content", f"the content must be text, this is {kind_of(content)}")
    return Turn(role, whole(content, f"{field}.content"), learned, calls, call_id)


def _joined(content: object, field: str) -> object:
    """The text of a content that is written in parts; any other content as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts = []
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(text, str):
            raise Malformed(
                f"{field}.content[{index}]", 'of contents in parts those of text are read: {"type": "text", "text": …}'
            )
        texts.append(text)
    return "".join(texts)


def _learned(entry: Mapping[str, object], field: str) -> bool:
    """Whether the answer is learned from: what its weight says.  Raises Malformed for one that is neither 0 nor 1."""
    weight = entry.get("weight")
    if weight is None:
        return True
    if isinstance(weight, bool) or weight not in (0, 1):
        raise Malformed(
            f"{field}.weight", "the weight of an answer is 1, or 0 for one that is not learned; write one of these"
        )
    return weight == 1
