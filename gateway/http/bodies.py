"""Bodies and queries of requests about things that are kept: read strictly, and refused by name where they say too much."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from services.chassis.errors import Failure, Reason

Text = Annotated[str, Field(strict=True)]
Count = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
_INT32 = 1 << 31
_NAME_CHARACTERS = 64


class Body(BaseModel):
    """What a request may say; anything else is refused by its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    # Parameters that are not supported, with the values that ask for nothing and pass.
    idle: ClassVar[Mapping[str, tuple[object, ...]]] = {}


@dataclass(frozen=True, slots=True)
class Described:
    """What the document says of a field that is read later, part by part."""

    shape: Any

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(self.shape).core_schema)


Schema = TypeVar("Schema", bound=Body)


def read(schema: type[Schema], raw: bytes) -> Schema:
    """The body in ``raw``; an empty one says nothing.

    Raises BODY_NOT_DECODABLE, FIELD_INVALID, or PARAMETER_UNSUPPORTED by name.
    """
    return checked(schema, decoded(raw))


def decoded(raw: bytes) -> dict[str, Any]:
    """The JSON object in ``raw``; an empty body says nothing.  Raises BODY_NOT_DECODABLE."""
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="JSON") from None
    if not isinstance(body, dict):
        raise Failure(Reason.BODY_NOT_DECODABLE, type="a JSON object")
    return body


def checked(
    schema: type[Schema], said: Mapping[str, Any], where: str = "", why: Mapping[str, str] | None = None
) -> Schema:
    """What was said at ``where``, as the schema has it; ``why`` has reasons for what it does not have.

    Raises FIELD_INVALID, or PARAMETER_UNSUPPORTED by name.
    """
    try:
        return schema.model_validate(said)
    except ValidationError as error:
        raise _refusal(error, where, why or {}) from None


def int32(value: int | None, field: str) -> int:
    """The value, if the wire can carry it; 0 for None.  Raises FIELD_INVALID."""
    if value is not None and not -_INT32 <= value < _INT32:
        raise Failure(Reason.FIELD_INVALID, field=field, problem="is out of range")
    return value or 0


def _refusal(error: ValidationError, where: str, why: Mapping[str, str]) -> Failure:
    first = _telling(error.errors(include_url=False, include_context=False, include_input=False))
    unknown = first["type"] == "extra_forbidden"
    *path, last = first["loc"] or ("",)
    # What the schema does not have is named as the caller spelled it, whatever that looks like.
    parts = [part for part in path if _is_named(part)] + ([last] if unknown or _is_named(last) else [])
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:_NAME_CHARACTERS]}" for part in parts)
    field = (where + field).lstrip(".")
    if unknown:
        return Failure(Reason.PARAMETER_UNSUPPORTED, field=field, why=why.get(field, ""))
    return Failure(Reason.FIELD_INVALID, field=field, problem=first["msg"])


def _telling(errors: list[ErrorDetails]) -> ErrorDetails:
    """The first error; of a value that may be a text or a list the one inside the list that was sent, not that it is no text."""
    first = errors[0]
    *above, branch = first["loc"] or ("",)
    if _is_named(branch):
        return first
    inside = (
        item for item in errors if len(item["loc"]) > len(first["loc"]) and item["loc"][: len(above)] == (*above,)
    )
    return next(inside, first)


def _is_named(part: int | str) -> bool:
    """Whether a part of a path stands in the request too: branches of a union (classes and types) do not."""
    if isinstance(part, int):
        return True
    return part == part.lower() and part.replace("_", "").isidentifier() and part not in _TYPES


_TYPES = frozenset({"str", "constrained-str", "int", "constrained-int", "float", "constrained-float", "bool"})
