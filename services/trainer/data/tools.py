"""Tools in a record, and the calls of them in its messages, in OpenAI's chat format for function calling.

Invariant: what comes out of here is what a request with the same tools and messages would have, so that a template is
given the same in training and in serving (that it then writes the same before an answer, `examples` sees to); tools
and calls that no request could have, by form, number or length, raise Malformed, which names the place and what to do.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.trainer.data.rows import Call, Malformed, Tool, kind_of, whole

# As a request has them (protos/trivium/common/v1/chat.proto); of a turn's calls there may be as many as tools.
MOST_TOOLS = 128
_MOST_DESCRIPTION_BYTES = 16384
_MOST_OBJECT_BYTES = 65536
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_A_TOOL = '{"type": "function", "function": {"name": …, "description": …, "parameters": …}}'
_A_CALL = '{"id": …, "type": "function", "function": {"name": …, "arguments": …}}'


@dataclass(slots=True)
class Offered:
    """The tools of a record, and the ids of what was called of them so far; ``single``: one call a turn at most."""

    tools: tuple[Tool, ...] = ()
    single: bool = False
    _called: set[str] = field(default_factory=set)

    def after(self) -> "Offered":
        """The same for one of several answers to a prompt, of which none hears of another's calls."""
        return Offered(self.tools, self.single, set(self._called))

    def calls_of(self, entry: Mapping[str, object], role: object, place: str) -> tuple[Call, ...]:
        """The calls of a message.  Raises Malformed for one that no request could have."""
        if entry.get("function_call"):
            raise Malformed(f"{place}.function_call", f"this is the older form; write tool_calls, each {_A_CALL}")
        given = entry.get("tool_calls")
        if not given:
            return ()
        place += ".tool_calls"
        if role != "assistant":
            raise Malformed(place, f"a message of the role {role} calls nothing; only the assistant does")
        if not isinstance(given, list):
            raise Malformed(place, f"a list of calls is needed, this is {kind_of(given)}; each is {_A_CALL}")
        if len(given) > MOST_TOOLS:
            raise Malformed(place, f"the turn makes {len(given)} calls, at most {MOST_TOOLS} fit; drop some")
        if self.single and len(given) > 1:
            raise Malformed(
                place, f"the turn makes {len(given)} calls and parallel_tool_calls is false; drop one of the two"
            )
        calls = tuple(self._call(call, f"{place}[{index}]") for index, call in enumerate(given))
        self._called.update(call.id for call in calls)
        return calls

    def answered_by(self, entry: Mapping[str, object], role: object, place: str) -> str:
        """The id of the call that a tool's message answers; empty where nothing was called.  Raises Malformed."""
        given = entry.get("tool_call_id")
        place += ".tool_call_id"
        if role != "tool":
            if given:
                raise Malformed(place, f"a message of the role {role} answers no call; only a tool's does")
            return ""
        if given in (None, "") and not self._called:
            return ""
        if not isinstance(given, str) or given not in self._called:
            said = json.dumps(given[:40]) if isinstance(given, str) else kind_of(given)
            raise Malformed(place, f"it must be the id of a call before it, this is {said}")
        return given

    def _call(self, call: object, place: str) -> Call:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or call.get("type", "function") != "function":
            raise Malformed(place, f"a call is {_A_CALL}")
        id_, name = call.get("id"), function.get("name")
        if not isinstance(id_, str) or not 0 < len(id_) <= 128:
            raise Malformed(f"{place}.id", f"an id of 1 to 128 characters is needed, this is {kind_of(id_)}")
        if name not in [tool.name for tool in self.tools]:
            said = json.dumps(name[:64]) if isinstance(name, str) else kind_of(name)
            raise Malformed(f"{place}.function.name", f"{said} is none of the row's tools; add it to tools")
        arguments = _object(function.get("arguments"), f"{place}.function.arguments", "{}")
        return Call(whole(id_, f"{place}.id"), str(name), arguments)


def offered_of(fields: Mapping[str, object], within: str = "") -> Offered:
    """The tools of a record.  Raises Malformed for one that no request could have."""
    if not _is_nothing(fields.get("functions")):
        raise Malformed(f"{within}functions", f"this is the older form; write tools, each {_A_TOOL}")
    given = fields.get("tools")
    single = _is_single(fields, within)
    if _is_nothing(given):
        return Offered()
    place = f"{within}tools"
    given = _read(given, place)
    if not isinstance(given, list):
        raise Malformed(place, f"a list of tools is needed, this is {kind_of(given)}; each is {_A_TOOL}")
    if len(given) > MOST_TOOLS:
        raise Malformed(place, f"the row has {len(given)} tools, at most {MOST_TOOLS} fit")
    tools = tuple(_tool(tool, f"{place}[{index}]") for index, tool in enumerate(given))
    names = [tool.name for tool in tools]
    twice = next((index for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise Malformed(f"{place}[{twice}].function.name", f"two of them are named {names[twice]}; drop one")
    return Offered(tools, single)


def _is_single(fields: Mapping[str, object], within: str) -> bool:
    place = f"{within}parallel_tool_calls"
    given = fields.get("parallel_tool_calls")
    if given is None or given == "":
        return False
    read = _read(given.lower() if isinstance(given, str) else given, place)
    if not isinstance(read, bool):
        raise Malformed(place, f"it must be true or false, this is {kind_of(read)}")
    return not read


def _tool(tool: object, place: str) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(function, dict) or tool.get("type") != "function":
        raise Malformed(place, f"a tool is {_A_TOOL}")
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        problem = "a name of letters, digits, underscores and hyphens is needed, at most 64"
        raise Malformed(f"{place}.function.name", f"{problem}; this is {kind_of(name)}")
    if not isinstance(description, str):
        raise Malformed(f"{place}.function.description", f"a text is needed, this is {kind_of(description)}")
    parameters = function.get("parameters")
    schema = _object(parameters, f"{place}.function.parameters", "") if parameters else ""
    # An empty schema is none, as a request's is.
    schema = "" if schema == "{}" else schema
    told = f"{place}.function.description"
    return Tool(name, _fitting(whole(description, told), told, _MOST_DESCRIPTION_BYTES), schema)


def _object(given: object, place: str, nothing: str) -> str:
    """A JSON object, or its text, as text.  Raises Malformed."""
    if given in (None, ""):
        return nothing
    read = _read(given, place)
    if not isinstance(read, dict):
        raise Malformed(place, f"a JSON object is needed, this is {kind_of(read)}")
    try:
        text = json.dumps(read, ensure_ascii=False)
    except RecursionError as error:
        raise Malformed(place, "the object is nested too deeply; flatten it") from error
    return _fitting(whole(text, place), place, _MOST_OBJECT_BYTES)


def _fitting(text: str, place: str, most: int) -> str:
    """The text.  Raises Malformed for one of more bytes than a request takes."""
    if (size := len(text.encode())) > most:
        raise Malformed(place, f"it has {size} bytes, at most {most} fit in a request; shorten it")
    return text


def _read(given: object, place: str) -> object:
    """What a text says in JSON, as cells of CSV and arguments of calls have it; anything else as it is."""
    if not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except (ValueError, RecursionError) as error:
        raise Malformed(place, "the text is no JSON; write it as an object, or as the text of one") from error


def _is_nothing(given: object) -> bool:
    return not given or (isinstance(given, str) and given.strip() in ("", "[]", "null"))
