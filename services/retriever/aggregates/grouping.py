"""Documents by what their metadata say.

Invariant: every document that counts is in the group of each of its values, or in the one
of those that lack the field.
"""

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.retriever.aggregates.question import Group
from services.retriever.documents.attributes import Kind, Moment, Value
from services.retriever.store import MetadataRow

_BATCH = 500


def groups(session: Session, field: str, passages: Mapping[int, int]) -> tuple[Group, ...]:
    """Groups of documents (by number, with the passages that count of each), the largest first; none without a field."""
    if not field:
        return ()
    members: dict[tuple[str, Value | None], set[int]] = defaultdict(set)
    numbers = sorted(passages)
    for first in range(0, len(numbers), _BATCH):
        some = numbers[first : first + _BATCH]
        query = select(MetadataRow).where(MetadataRow.document_number.in_(some), MetadataRow.name == field)
        for row in session.scalars(query):
            if (value := _value(row)) is not None:
                kind = Kind.TEXT.name if row.kind == Kind.TEXTS.name else row.kind
                members[kind, value].add(row.document_number)
    lacking = set(passages).difference(*members.values())
    if lacking:
        members["", None] = lacking
    # By type and text where they are alike in size, so that the order is always the same.
    order = sorted(members, key=lambda key: (-len(members[key]), key[1] is None, key[0], str(key[1])))
    return tuple(Group(key[1], len(members[key]), sum(passages[it] for it in members[key])) for key in order)


def _value(row: MetadataRow) -> Value | None:
    """The value; None of an empty list."""
    if row.kind == Kind.TIME.name:
        return None if row.micros is None else Moment(row.micros)
    if row.kind in (Kind.TEXT.name, Kind.TEXTS.name):
        return row.text
    if row.number is None:
        return None
    return bool(row.number) if row.kind == Kind.FLAG.name else row.number
