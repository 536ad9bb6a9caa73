"""Tools that a model may call: what is offered, the form in which a chat template writes calls, and what forces one.

A template is a program; which form it writes is read from what it renders of a call made up for this, never from its
text.  Three forms are known: calls between ``<tool_call>`` marks (Hermes, Qwen), calls that are an answer's whole text
(Llama 3), and a list behind ``[TOOL_CALLS]`` (Mistral).  Invariant: where a call is forced, or its arguments are to obey
their schema, the engine cannot write anything else; a wish that a form cannot force is refused by its name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from services.chassis import chat_tools
from services.chassis.errors import Failure, Reason
from services.generator.conversation import Call, Turn
from services.generator.engine import Constraint, ConstraintKind


class Choice(Enum):
    """Which calls an answer may have."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool; ``parameters`` is a JSON Schema as text, ``strict`` None where it was not said."""

    name: str
    description: str = ""
    parameters: str = ""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of a conversation; ``name`` only for a choice NAMED, ``single`` for one call at most."""

    tools: tuple[Tool, ...]
    choice: Choice = Choice.AUTO
    name: str = ""
    single: bool = False

    @property
    def offered(self) -> tuple[Tool, ...]:
        """The tools that the model is shown."""
        return () if self.choice is Choice.NONE else self.tools

    @property
    def callable_names(self) -> frozenset[str]:
        """What a call may name."""
        return frozenset(tool.name for tool in self._callable())

    def _callable(self) -> list[Tool]:
        return [tool for tool in self.offered if self.choice is not Choice.NAMED or tool.name == self.name]

    @property
    def forced(self) -> bool:
        """Whether the answer must be calls."""
        return self.choice in (Choice.REQUIRED, Choice.NAMED)

    def require_sound(self) -> None:
        """Raise FIELD_INVALID for names that come twice or are not there, and parameters that are no schema."""
        names = [tool.name for tool in self.tools]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Failure(Reason.FIELD_INVALID, field="tool_use.tools", problem=f"two of them are named {twice}")
        if self.choice is Choice.NAMED and self.name not in names:
            raise Failure(Reason.FIELD_INVALID, field="tool_use.name", problem=f"no tool is named {self.name}")
        for number, tool in enumerate(self.tools):
            _schema(tool, f"tool_use.tools[{number}].parameters")

    def shown(self) -> list[dict[str, Any]]:
        """The tools as chat templates expect them."""
        return [chat_tools.tool_shown(tool.name, tool.description, _schema(tool)) for tool in self.offered]


def _schema(tool: Tool, field: str = "tool_use.tools") -> dict[str, Any]:
    if not tool.parameters:
        return {"type": "object", "properties": {}}
    try:
        schema = json.loads(tool.parameters)
    except (ValueError, RecursionError):
        schema = None
    if not isinstance(schema, dict):
        raise Failure(Reason.FIELD_INVALID, field=field, problem="is not a JSON Schema of an object")
    return schema


@dataclass(frozen=True, slots=True)
class CallForm:
    """How calls stand in an answer.

    Each call is a JSON object with ``name`` and ``arguments`` under the key of that name, between ``opening`` and
    ``closing``; an empty opening means that the answer begins with it.  With ``listed`` one frame holds a list of calls.
    """

    title: str
    opening: str
    closing: str
    arguments: str
    listed: bool = False

    def constraint(self, use: ToolUse) -> Constraint | None:
        """What the engine is held to; None where the model is free.  Raises FIELD_INVALID for what cannot be forced."""
        strict = any(tool.strict for tool in use.offered)
        if not (use.forced or strict or use.single):
            return None
        if self.listed:
            return self._list(use)
        tags = [self._tag(tool) for tool in use._callable()]
        once = use.single or use.choice is Choice.NAMED
        form: dict[str, Any] = {"tags": tags, "stop_after_first": once, "at_least_one": use.forced}
        if use.forced:
            form |= {"type": "tags_with_separator", "separator": "\n" if self.closing else "; "}
        else:
            form |= {"type": "triggered_tags", "triggers": [self.opening or '{"name": "']}
        return Constraint(ConstraintKind.STRUCTURAL_TAG, json.dumps({"type": "structural_tag", "format": form}))

    def _tag(self, tool: Tool) -> dict[str, Any]:
        begin = f'{self.opening}{{"name": {json.dumps(tool.name)}, "{self.arguments}": '
        # White space without end is JSON too, and some models go on with it until their limit.
        content = {"type": "json_schema", "json_schema": _arguments(tool), "max_whitespace_cnt": 1}
        return {"type": "tag", "begin": begin, "content": content, "end": "}" + self.closing}

    def _list(self, use: ToolUse) -> Constraint:
        """The list alone: its mark may be a token that no grammar can write, and the reader knows of it."""
        if not use.forced:
            field = "tool_use.single" if use.single else "tool_use.tools"
            problem = f"cannot be held to by a model whose template writes calls as {self.title}; force a call instead"
            raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)
        calls = [
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, self.arguments: _arguments(tool)},
                "required": ["name", self.arguments],
                "additionalProperties": False,
            }
            for tool in use._callable()
        ]
        schema: dict[str, Any] = {"type": "array", "items": {"anyOf": calls}, "minItems": 1}
        if use.single or use.choice is Choice.NAMED:
            schema["maxItems"] = 1
        return Constraint(ConstraintKind.JSON_SCHEMA, json.dumps(schema))


def _arguments(tool: Tool) -> dict[str, Any]:
    return {"type": "object"} if tool.strict is False else _schema(tool)


HERMES = CallForm("<tool_call> marks", "<tool_call>\n", "\n</tool_call>", "arguments")
LLAMA = CallForm("an object that is the whole answer", "", "", "parameters")
MISTRAL = CallForm("a list behind [TOOL_CALLS]", "[TOOL_CALLS]", "", "arguments", listed=True)

_PROBE = Tool(chat_tools.PROBE_NAME, chat_tools.PROBE_DESCRIPTION, json.dumps(chat_tools.PROBE_PARAMETERS))
PROBE = ToolUse((_PROBE,))
_ASKED = Turn("user", chat_tools.PROBE_QUESTION)
_CALLED = Call(chat_tools.PROBE_CALL, _PROBE.name, json.dumps(chat_tools.PROBE_ARGUMENTS))
SHOWING: Sequence[Turn] = (_ASKED,)
CALLING: Sequence[Turn] = (
    _ASKED,
    Turn("assistant", "", (_CALLED,)),
    Turn("tool", chat_tools.PROBE_RESULT, call_id=_CALLED.id),
)
_FORMS = {chat_tools.Form.HERMES: HERMES, chat_tools.Form.LLAMA: LLAMA, chat_tools.Form.MISTRAL: MISTRAL}


def form_of(showing: str, calling: str) -> CallForm | None:
    """The form of a template that rendered ``SHOWING`` and ``CALLING`` with the probe's tool; None if it has no known one."""
    form = chat_tools.form_of(showing, calling)
    return None if form is None else _FORMS[form]
