"""A page of a list whose entries have an id of the client's and a number of ours that rises with age.

Invariant: pages that follow one another hold every entry that was there all the while, once: a position is a
key of the order and not a count of entries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import InstrumentedAttribute, Session

from services.chassis.errors import Failure, Reason

R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)


class Order(StrEnum):
    """By what a list is sorted."""

    ID = "id"
    OLDEST_FIRST = "oldest first"
    NEWEST_FIRST = "newest first"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page: ``most`` entries from ``position`` on, where an earlier page ended.

    Without one, behind the entry ``after``, or the last ones ahead of ``before``.
    """

    most: int
    order: Order = Order.ID
    after: str = ""
    before: str = ""
    position: str | int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """Entries in the order that was asked for, and where the next page begins; None on the last."""

    entries: tuple[T_co, ...]
    next: str | int | None


def page(
    session: Session,
    rows: Select[R],
    by_id: InstrumentedAttribute[str],
    by_number: InstrumentedAttribute[int],
    asked: Asked,
    number_of: Callable[[str], int],
) -> Page[R]:
    """The page of ``rows``; ``number_of`` gives the number of the entry with an id and raises where there is none.

    Raises FIELD_INVALID for ``after`` beside ``before``.
    """
    if asked.after and asked.before:
        raise Failure(Reason.FIELD_INVALID, field="before", problem="cannot stand beside after. Leave one of them out")
    named = asked.order is Order.ID
    key: InstrumentedAttribute[Any] = by_id if named else by_number
    start: str | int | None = asked.position
    edge = asked.before or asked.after
    if start is None and edge:
        start = edge if named else number_of(edge)
    # What lies ahead of an entry is read from there backwards, and turned round.
    backwards = bool(asked.before)
    falling = (asked.order is Order.NEWEST_FIRST) is not backwards
    if start is not None:
        rows = rows.where(key < start if falling else key > start)
    found = list(session.scalars(rows.order_by(key.desc() if falling else key).limit(asked.most + 1)))
    more, found = len(found) > asked.most, found[: asked.most]
    following = getattr(found[-1], key.key) if more else None
    return Page(tuple(reversed(found) if backwards else found), following)
