"""Filters by attributes in OpenAI's shape, as the retriever's."""

from typing import Annotated, Any, Literal, Union

from pydantic import Field
from trivium.retriever.v1 import retriever_pb2 as pb

from gateway.http.bodies import Body, Number, Text
from services.chassis.errors import Failure, Reason

# The retriever takes less; deeper ones are not even carried there.
_DEEPEST = 16
_OPERATORS = {
    "eq": pb.FILTER_OPERATOR_EQUAL,
    "ne": pb.FILTER_OPERATOR_NOT_EQUAL,
    "gt": pb.FILTER_OPERATOR_GREATER,
    "gte": pb.FILTER_OPERATOR_GREATER_OR_EQUAL,
    "lt": pb.FILTER_OPERATOR_LESS,
    "lte": pb.FILTER_OPERATOR_LESS_OR_EQUAL,
    "in": pb.FILTER_OPERATOR_IN,
    "nin": pb.FILTER_OPERATOR_NOT_IN,
}
_NAMES = {int(number): name for name, number in _OPERATORS.items()}
_Flag = Annotated[bool, Field(strict=True)]
Value = _Flag | Number | Text


class Comparison(Body):
    """One attribute against a value, or several for ``in`` and ``nin``."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin"]
    key: Text
    value: Value | list[Value]


class Compound(Body):
    """All of several filters, or any of them."""

    type: Literal["and", "or"]
    filters: Annotated[list["Filter"], Field(min_length=1)]


Filter = Annotated[Union[Comparison, Compound], Field(discriminator="type")]  # noqa: UP007 - a forward reference
Compound.model_rebuild()


def value(given: bool | float | str) -> pb.MetadataValue:
    """A value of an attribute, by its type."""
    if isinstance(given, bool):
        return pb.MetadataValue(flag=given)
    if isinstance(given, str):
        return pb.MetadataValue(text=given)
    return pb.MetadataValue(number=given)


def filter_of(given: Comparison | Compound, depth: int = 0) -> pb.Filter:
    """The filter as the retriever takes it.  Raises FIELD_INVALID for one that is nested too deep."""
    if depth > _DEEPEST:
        raise Failure(Reason.FIELD_INVALID, field="filters", problem="are nested too deep")
    if isinstance(given, Comparison):
        values = given.value if isinstance(given.value, list) else [given.value]
        condition = pb.FilterCondition(
            field=given.key, operator=_OPERATORS[given.type], values=[value(item) for item in values]
        )
        return pb.Filter(condition=condition)
    group = pb.FilterGroup(filters=[filter_of(item, depth + 1) for item in given.filters])
    return pb.Filter(all_of=group) if given.type == "and" else pb.Filter(any_of=group)


def told(given: pb.Filter) -> dict[str, Any] | None:
    """The filter as OpenAI's clients said it; None for one that only our own API can say."""
    kind = given.WhichOneof("test")
    if kind in ("all_of", "any_of"):
        filters = [told(item) for item in getattr(given, kind).filters]
        return None if None in filters else {"type": "and" if kind == "all_of" else "or", "filters": filters}
    name = _NAMES.get(given.condition.operator)
    if kind != "condition" or name is None:
        return None
    values = [getattr(item, item.WhichOneof("value") or "text") for item in given.condition.values]
    several = name in ("in", "nin")
    return {"type": name, "key": given.condition.field, "value": values if several else values[0]}
