"""What lists over HTTP share: their query, of which nothing is ignored, and their frame."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import QueryParams
from trivium.files.v1 import file_pb2

from services.chassis.errors import Failure, Reason

# So many digits are an int32 in any case.
_DIGITS = 9
# How OpenAI's clients end the name of a list, whose values stand in the query one by one.
LIST = "[]"
_ORDERS = {"asc": file_pb2.ORDER_ASCENDING, "desc": file_pb2.ORDER_DESCENDING}


def only(query: Mapping[str, str], *names: str) -> None:
    """Raise PARAMETER_UNSUPPORTED for a parameter that is none of these."""
    for name in query:
        if name not in names:
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field=name, why=" here")


def listed(query: Mapping[str, str], name: str) -> list[str]:
    """Every value of a list, with and without brackets at its name."""
    said = query.multi_items() if isinstance(query, QueryParams) else query.items()
    return [value for parameter, value in said if parameter in (name, name + LIST)]


def limit(query: Mapping[str, str]) -> int:
    """``limit``, 0 where it is not given; how high it may be is checked with every other rule of our API.

    Raises FIELD_INVALID for what the wire cannot carry, and for 0, which would mean the default there.
    """
    text = query.get("limit")
    if text is None:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or not int(text):
        problem = f"must be a whole number from 1, of at most {_DIGITS} digits"
        raise Failure(Reason.FIELD_INVALID, field="limit", problem=problem)
    return int(text)


def order(query: Mapping[str, str]) -> file_pb2.Order.ValueType:
    """``order``.  Raises FIELD_INVALID."""
    text = query.get("order")
    if text is None:
        return file_pb2.ORDER_UNSPECIFIED
    if text not in _ORDERS:
        raise Failure(Reason.FIELD_INVALID, field="order", problem="must be asc or desc")
    return _ORDERS[text]


def page(entries: Sequence[dict[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page as OpenAI's clients go through it."""
    return {
        "object": "list",
        "data": list(entries),
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": has_more,
    }
