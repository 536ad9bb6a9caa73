"""Turns of a conversation as chat templates see them, and the calls of tools in them: plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from services.chassis.chat_tools import message_shown


class Unrenderable(ValueError):
    """The base's chat template refuses a conversation; the text says why."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool in an earlier turn; ``arguments`` is a JSON object as text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class CallDelta:
    """More of call number ``index`` of an answer: its first part has id and name, the later ones more arguments."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation; ``calls`` only of the assistant, ``call_id`` only of a tool."""

    role: str
    content: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""

    @property
    def message(self) -> dict[str, Any]:
        """The turn as chat templates expect it.  Raises Unrenderable for arguments that are no JSON object."""
        calls = [(call.id, call.name, _members(call)) for call in self.calls]
        return message_shown(self.role, self.content, calls, self.call_id)


def _members(call: Call) -> dict[str, Any]:
    try:
        members = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise Unrenderable(f"the arguments of the call {call.id} are no JSON object")
    return members
