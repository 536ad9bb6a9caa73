"""How a body is read: strictly, by its schema.  What the schema does not have is refused by name, never ignored."""

from collections.abc import Mapping
from typing import Any, TypeVar

from gateway.http import bodies
from services.chassis.errors import Failure, Reason

_WHY = {
    "max_completion_tokens": " beside another max_tokens",
    "function_call": "; use tool_choice",
    "functions": "; use tools",
}


class Strict(bodies.Body):
    """What names no field that is not its own."""


Schema = TypeVar("Schema", bound=Strict)


def parse(schema: type[Schema], raw: bytes) -> Schema:
    """The request in ``raw``.  Raises BODY_NOT_DECODABLE, FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    if not raw.strip():
        raise Failure(Reason.BODY_NOT_DECODABLE, type="JSON")
    return bodies.checked(schema, _asked(bodies.decoded(raw), schema.idle), why=_WHY)


def _asked(body: dict[str, Any], idle: Mapping[str, tuple[object, ...]]) -> dict[str, Any]:
    """The body without what asks for nothing; messages lose their nulls too (clients send answers back whole)."""
    asked = {
        name: value
        for name, value in body.items()
        if value is not None and not any(value == nothing for nothing in idle.get(name, ()))
    }
    for name in ("messages", "tools"):
        items = asked.get(name)
        if isinstance(items, list):
            asked[name] = [_without_nulls(item) for item in items]
    return asked


def _without_nulls(item: object) -> object:
    """The item without what was not said in it, a function's own fields included; a schema's nulls are its own."""
    if not isinstance(item, dict):
        return item
    said = _said(item)
    # One level, as deep as a tool has it: what a caller nests is not followed.
    if isinstance(function := said.get("function"), dict):
        said["function"] = _said(function)
    return said


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
