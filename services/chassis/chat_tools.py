"""Tools, calls and their results as chat templates are given them, and the forms in which templates write calls.

A model that is to call tools learns its calls by the template that it is asked with, so training and serving give a
template the same.  What a template writes before an answer may change once the conversation goes on: the trainer
learns an answer only behind what it is asked with.  A template is a program: whether it has tools, and in which form it writes calls, is read from what
it renders of a conversation made up for this, never from its text.
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

# What makes up the conversation that asks for a template's form.
PROBE_NAME = "probe_of_calls"
PROBE_DESCRIPTION = "A probe."
PROBE_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {"probed": {"type": "string"}}}
PROBE_ARGUMENTS: Mapping[str, Any] = {"probed": "yes"}
PROBE_QUESTION = "Probe."
PROBE_RESULT = "Probed."
# Nine letters and digits: some templates take no other id.
PROBE_CALL = "probe0001"


class Form(Enum):
    """How calls stand in an answer."""

    HERMES = "between <tool_call> marks"
    LLAMA = "an object that is the whole answer"
    MISTRAL = "a list behind [TOOL_CALLS]"


_WRITTEN: Mapping[Form, re.Pattern[str]] = {
    Form.HERMES: re.compile(r'<tool_call>\s*\{"name": "probe_of_calls", "arguments": \{'),
    Form.MISTRAL: re.compile(r'\[TOOL_CALLS\]\s*\[\s*\{[^\]]*"name": "probe_of_calls"'),
    Form.LLAMA: re.compile(r'(?<!>)\{"name": "probe_of_calls", "parameters": \{'),
}


def tool_shown(name: str, description: str, parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """A tool; ``parameters`` is a JSON Schema of an object, None where it takes none."""
    schema = {"type": "object", "properties": {}} if parameters is None else parameters
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


def message_shown(
    role: str, content: str, calls: Sequence[tuple[str, str, Mapping[str, Any]]] = (), call_id: str = ""
) -> dict[str, Any]:
    """A turn: ``calls`` are id, name and arguments of each; ``call_id`` is that of the call whose result it is."""
    written: dict[str, Any] = {"role": role, "content": content}
    if calls:
        written["tool_calls"] = [
            {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id_, name, arguments in calls
        ]
    if call_id:
        written["tool_call_id"] = call_id
    return written


PROBE_TOOLS = (tool_shown(PROBE_NAME, PROBE_DESCRIPTION, PROBE_PARAMETERS),)
SHOWING = (message_shown("user", PROBE_QUESTION),)
CALLING = (
    *SHOWING,
    message_shown("assistant", "", [(PROBE_CALL, PROBE_NAME, PROBE_ARGUMENTS)]),
    message_shown("tool", PROBE_RESULT, call_id=PROBE_CALL),
)


def form_of(showing: str, calling: str) -> Form | None:
    """The form of a template that rendered ``SHOWING`` and ``CALLING`` with ``PROBE_TOOLS``; None if it has no known one."""
    if PROBE_NAME not in showing or PROBE_RESULT not in calling:
        return None
    return next((form for form, written in _WRITTEN.items() if written.search(calling)), None)
