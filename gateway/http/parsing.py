"""How a body is read: strictly, by its schema.  What the schema does not have is refused by name, never ignored."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.chassis.errors import Failure, Reason

_WHY = {
    "max_completion_tokens": " beside another max_tokens",
    "function_call": "; use tool_choice",
    "functions": "; use tools",
}
Text = Annotated[str, Field(strict=True)]
Count = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]


class Strict(BaseModel):
    """What names no field that is not its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Parameters that are not supported, with the values that ask for nothing and pass.
    idle: ClassVar[Mapping[str, tuple[object, ...]]] = {}


Schema = TypeVar("Schema", bound=Strict)


def parse(schema: type[Schema], raw: bytes) -> Schema:
    """The request in ``raw``.  Raises BODY_NOT_DECODABLE, FIELD_INVALID, or PARAMETER_UNSUPPORTED by name."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="JSON") from None
    if not isinstance(body, dict):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="a JSON object")
    try:
        return schema.model_validate(_asked(body, schema.idle))
    except ValidationError as error:
        raise _refusal(error) from None


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
    return {
        name: _without_nulls(value) if name == "function" else value
        for name, value in item.items()
        if value is not None
    }


def _refusal(error: ValidationError) -> Failure:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # Branches of a union ("str", "list[TextPart]") stand in the path; the request has no such names.
    parts = [part for part in first["loc"] if isinstance(part, int) or part.replace("_", "").isidentifier()]
    parts = [part for part in parts if part not in ("str", "constrained-str", "NamedTool")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")
    if first["type"] == "extra_forbidden":
        return Failure(Reason.PARAMETER_UNSUPPORTED, field=field, why=_WHY.get(field, ""))
    return Failure(Reason.FIELD_INVALID, field=field, problem=first["msg"])
