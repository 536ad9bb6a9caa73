"""Tools of ``trivium.common.v1`` and the domain, both ways: shared by the wire of our own API and by the generator's leaf."""

from collections.abc import Iterable

from trivium.common.v1 import chat_pb2

from gateway.generation import Tool, ToolCallDelta, ToolChoice, ToolUse

_CHOICES = {
    ToolChoice.AUTO: chat_pb2.TOOL_CHOICE_AUTO,
    ToolChoice.NONE: chat_pb2.TOOL_CHOICE_NONE,
    ToolChoice.REQUIRED: chat_pb2.TOOL_CHOICE_REQUIRED,
    ToolChoice.NAMED: chat_pb2.TOOL_CHOICE_NAMED,
}
_CHOSEN = {int(code): choice for choice, code in _CHOICES.items()}


def to_tools(use: ToolUse | None) -> chat_pb2.ToolUse | None:
    """Tools as the wire carries them."""
    if use is None:
        return None
    return chat_pb2.ToolUse(
        tools=[
            chat_pb2.Tool(name=tool.name, description=tool.description, parameters=tool.parameters, strict=tool.strict)
            for tool in use.tools
        ],
        choice=_CHOICES[use.choice],
        name=use.name,
        single=use.single,
    )


def of_tools(message: chat_pb2.ToolUse) -> ToolUse | None:
    """Tools of the wire; an unset message has none."""
    if not message.tools:
        return None
    tools = tuple(
        Tool(tool.name, tool.description, tool.parameters, tool.strict if tool.HasField("strict") else None)
        for tool in message.tools
    )
    return ToolUse(tools, _CHOSEN.get(message.choice, ToolChoice.AUTO), message.name, message.single)


def to_calls(calls: Iterable[ToolCallDelta]) -> list[chat_pb2.ToolCallDelta]:
    """Parts of calls as the wire carries them."""
    return [
        chat_pb2.ToolCallDelta(index=more.index, id=more.id, name=more.name, arguments=more.arguments) for more in calls
    ]


def of_calls(messages: Iterable[chat_pb2.ToolCallDelta]) -> tuple[ToolCallDelta, ...]:
    """Parts of calls of the wire."""
    return tuple(ToolCallDelta(more.index, more.id, more.name, more.arguments) for more in messages)
