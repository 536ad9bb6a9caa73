"""Tools and their calls in OpenAI's words, both ways."""

import json
from collections.abc import Iterable
from typing import Any

from trivium.common.v1 import chat_pb2

from gateway.http.schemas import ChatCompletion, NamedTool, ToolDefinition
from services.chassis.errors import Failure, Reason

_CHOICES = {
    None: chat_pb2.TOOL_CHOICE_AUTO,
    "auto": chat_pb2.TOOL_CHOICE_AUTO,
    "none": chat_pb2.TOOL_CHOICE_NONE,
    "required": chat_pb2.TOOL_CHOICE_REQUIRED,
}


def of_tools(body: ChatCompletion) -> chat_pb2.ToolUse | None:
    """What the model may call; None without tools.  Raises FIELD_INVALID for what is said of none."""
    choice = body.tool_choice
    if not body.tools:
        _require_nothing_said(body)
        return None
    named = isinstance(choice, NamedTool)
    return chat_pb2.ToolUse(
        tools=[_tool(tool) for tool in body.tools],
        choice=chat_pb2.TOOL_CHOICE_NAMED if isinstance(choice, NamedTool) else _CHOICES[choice],
        name=choice.function.name if isinstance(choice, NamedTool) else "",
        # One that is named is called once in any case.
        single=not body.parallel_tool_calls and not named,
    )


def _require_nothing_said(body: ChatCompletion) -> None:
    if body.tool_choice not in (None, "none", "auto"):
        raise Failure(Reason.FIELD_INVALID, field="tool_choice", problem="needs tools")
    if not body.parallel_tool_calls:
        raise Failure(Reason.FIELD_INVALID, field="parallel_tool_calls", problem="needs tools")


def _tool(tool: ToolDefinition) -> chat_pb2.Tool:
    function = tool.function
    return chat_pb2.Tool(
        name=function.name,
        description=function.description,
        parameters=json.dumps(function.parameters, ensure_ascii=False) if function.parameters else "",
        strict=function.strict,
    )


def parts(calls: Iterable[chat_pb2.ToolCallDelta]) -> list[dict[str, Any]]:
    """Parts of calls as a chunk has them: the first one of a call names it."""
    return [
        {"index": more.index, "function": {"arguments": more.arguments}}
        if not more.id
        else {
            "index": more.index,
            "id": more.id,
            "type": "function",
            "function": {"name": more.name, "arguments": more.arguments},
        }
        for more in calls
    ]


class Calls:
    """The calls of one answer, put together from their parts."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []

    def add(self, more: Iterable[chat_pb2.ToolCallDelta]) -> None:
        """Take parts in; they come in order."""
        for part in more:
            if part.id:
                function = {"name": part.name, "arguments": ""}
                self._calls.append({"id": part.id, "type": "function", "function": function})
            self._calls[part.index]["function"]["arguments"] += part.arguments

    def message(self, text: str) -> dict[str, Any]:
        """The message that has them; one that only calls has no content."""
        said: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if self._calls:
            said |= {"content": text or None, "tool_calls": self._calls}
        return said
