"""Filters of a search, written as Python: `(field("price") < 10) & ~field("labels").contains_any("old")`.

A condition on a field that a document lacks, or holds with another type, is false; `~` passes exactly the documents
that its filter does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trivium.retriever.v1 import retriever_pb2 as pb

from trivium_client.metadata import MetadataValue, message


@dataclass(frozen=True, slots=True)
class Filter:
    """A test of a document's metadata; made by `field`, joined by `&`, `|` and `~`."""

    _message: pb.Filter

    def __and__(self, other: Filter) -> Filter:
        return Filter(pb.Filter(all_of=pb.FilterGroup(filters=[self._message, other._message])))

    def __or__(self, other: Filter) -> Filter:
        return Filter(pb.Filter(any_of=pb.FilterGroup(filters=[self._message, other._message])))

    def __invert__(self) -> Filter:
        return Filter(pb.Filter(negated=self._message))


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A name of the metadata; its comparisons are filters."""

    name: str

    def __eq__(self, value: object) -> Filter:  # type: ignore[override]  # a filter, as in every query builder
        return self._is("EQUAL", [value])

    def __ne__(self, value: object) -> Filter:  # type: ignore[override]  # as above
        return self._is("NOT_EQUAL", [value])

    __hash__ = None  # type: ignore[assignment]  # equality makes a filter

    def __lt__(self, value: MetadataValue) -> Filter:
        return self._is("LESS", [value])

    def __le__(self, value: MetadataValue) -> Filter:
        return self._is("LESS_OR_EQUAL", [value])

    def __gt__(self, value: MetadataValue) -> Filter:
        return self._is("GREATER", [value])

    def __ge__(self, value: MetadataValue) -> Filter:
        return self._is("GREATER_OR_EQUAL", [value])

    def between(self, first: MetadataValue, before: MetadataValue) -> Filter:
        """From `first` on, and less than `before`."""
        return self._is("BETWEEN", [first, before])

    def equals(self, text: str, *, ignore_case: bool = False) -> Filter:
        """The text, if wanted whatever its case."""
        return self._is("EQUAL", [text], ignore_case)

    def is_in(self, *values: MetadataValue, ignore_case: bool = False) -> Filter:
        """One of the values."""
        return self._is("IN", values, ignore_case)

    def is_not_in(self, *values: MetadataValue, ignore_case: bool = False) -> Filter:
        """Another value than these; the field is there."""
        return self._is("NOT_IN", values, ignore_case)

    def contains_any(self, *texts: str, ignore_case: bool = False) -> Filter:
        """A list with one of the texts."""
        return self._is("CONTAINS_ANY", texts, ignore_case)

    def contains_all(self, *texts: str, ignore_case: bool = False) -> Filter:
        """A list with all of the texts."""
        return self._is("CONTAINS_ALL", texts, ignore_case)

    def begins_with(self, text: str, *, ignore_case: bool = False) -> Filter:
        """A text that begins so."""
        return self._is("PREFIX", [text], ignore_case)

    def contains(self, text: str, *, ignore_case: bool = False) -> Filter:
        """A text with this inside."""
        return self._is("CONTAINS", [text], ignore_case)

    def exists(self) -> Filter:
        """The field is there, of any type."""
        return self._is("EXISTS", [])

    def _is(self, operator: str, values: Iterable[object], ignore_case: bool = False) -> Filter:
        condition = pb.FilterCondition(
            field=self.name,
            operator=pb.FilterOperator.Value(f"FILTER_OPERATOR_{operator}"),
            values=[message(value) for value in values],  # type: ignore[arg-type]  # `message` checks the type
            ignore_case=ignore_case,
        )
        return Filter(pb.Filter(condition=condition))


def field(name: str) -> Field:
    """The metadata of this name, to be compared."""
    return Field(name)
