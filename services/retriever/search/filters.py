"""Filters over metadata: a tree of tests, checked before anything is looked up.

Invariant: a filter that passes these checks is true or false of every document; nothing
in it is unknown, so that a negation passes exactly what its filter does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from services.chassis.errors import Failure, Reason
from services.retriever.documents.attributes import Kind, Value, kind_of, require_storable

MOST_LEVELS = 8
MOST_CONDITIONS = 64
MOST_VALUES = 1000


class Operator(StrEnum):
    """How a condition tests its field; the value is what messages show."""

    EQUAL = "="
    NOT_EQUAL = "≠"
    LESS = "<"
    LESS_OR_EQUAL = "≤"
    GREATER = ">"
    GREATER_OR_EQUAL = "≥"
    BETWEEN = "between"
    IN = "in"
    NOT_IN = "not in"
    CONTAINS_ANY = "contains any of"
    CONTAINS_ALL = "contains all of"
    PREFIX = "begins with"
    CONTAINS = "contains"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True)
class Condition:
    """One field against values."""

    field: str
    operator: Operator
    values: tuple[Value, ...] = ()
    ignore_case: bool = False

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return f"{self.field} exists"
        shown = [repr(value) if isinstance(value, str) else str(value) for value in self.values]
        one = shown[0] if len(shown) == 1 and self.operator not in _SETS else f"({', '.join(shown)})"
        return f"{self.field} {self.operator} {one}{', whatever the case' if self.ignore_case else ''}"

    @property
    def stored_kind(self) -> Kind | None:
        """The type that a field must have for the condition to say anything; None takes any."""
        if self.operator is Operator.EXISTS:
            return None
        return Kind.TEXTS if self.operator in _OF_LISTS else kind_of(self.values[0])


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one passes."""

    filters: "tuple[Filter, ...]"

    def __str__(self) -> str:
        return f"({' and '.join(map(str, self.filters))})"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one passes."""

    filters: "tuple[Filter, ...]"

    def __str__(self) -> str:
        return f"({' or '.join(map(str, self.filters))})"


@dataclass(frozen=True, slots=True)
class Negated:
    """The filter does not pass."""

    filter: "Filter"

    def __str__(self) -> str:
        return f"not {self.filter}"


Filter = Condition | AllOf | AnyOf | Negated

_SETS = {Operator.IN, Operator.NOT_IN, Operator.CONTAINS_ANY, Operator.CONTAINS_ALL}
_OF_LISTS = {Operator.CONTAINS_ANY, Operator.CONTAINS_ALL}
_OF_TEXTS = {Operator.PREFIX, Operator.CONTAINS, *_OF_LISTS}
_ORDERED = {Operator.LESS, Operator.LESS_OR_EQUAL, Operator.GREATER, Operator.GREATER_OR_EQUAL, Operator.BETWEEN}


def conditions(tree: Filter) -> Iterator[Condition]:
    """The conditions of a filter, left to right."""
    if isinstance(tree, Condition):
        yield tree
    else:
        for part in _parts(tree):
            yield from conditions(part)


def check(tree: Filter) -> None:
    """Raises FILTER_INVALID for a filter that is too large or that no document could be tested by."""
    levels = _levels(tree)
    if levels > MOST_LEVELS:
        raise invalid("it as a whole", f"it is {levels} levels deep, at most {MOST_LEVELS} are taken. Write it flatter")
    every = list(conditions(tree))
    if len(every) > MOST_CONDITIONS:
        problem = f"it has {len(every)} conditions, at most {MOST_CONDITIONS} are taken. Use IN for many values"
        raise invalid("it as a whole", problem)
    values = sum(len(condition.values) for condition in every)
    if values > MOST_VALUES:
        raise invalid("it as a whole", f"it has {values} values, at most {MOST_VALUES} are taken. Ask in parts")
    for condition in every:
        _check(condition)


def _check(condition: Condition) -> None:
    operator, values = condition.operator, condition.values
    least, most = _counts(operator)
    if not least <= len(values) <= most:
        wanted = str(least) if least == most else "at least one"
        number = f"{operator.name} takes {wanted} value{'s' * (least != 1)}, and there are {len(values)}"
        raise invalid(condition.field, f"{number}. Give as many as it takes")
    kinds = sorted({kind_of(value) for value in values})
    if len(kinds) > 1:
        raise invalid(condition.field, f"its values are of different types: {', '.join(kinds)}. Give one type")
    for kind in kinds:
        if kind not in _taken(operator):
            taken = " or ".join(sorted(_taken(operator)))
            remedy = "Name texts one by one" if kind is Kind.TEXTS else "Give such a value, or use another operator"
            raise invalid(condition.field, f"{operator.name} compares with {taken}, not with {kind}. {remedy}")
    for value in values:
        require_storable(condition.field, value, "filter")


def _counts(operator: Operator) -> tuple[int, int]:
    if operator in _SETS:
        return 1, MOST_VALUES
    return {Operator.EXISTS: (0, 0), Operator.BETWEEN: (2, 2)}.get(operator, (1, 1))


def _taken(operator: Operator) -> set[Kind]:
    if operator in _OF_TEXTS:
        return {Kind.TEXT}
    if operator in _ORDERED:
        return {Kind.TEXT, Kind.NUMBER, Kind.TIME}
    return {Kind.TEXT, Kind.NUMBER, Kind.TIME, Kind.FLAG}


def _parts(tree: AllOf | AnyOf | Negated) -> "tuple[Filter, ...]":
    return (tree.filter,) if isinstance(tree, Negated) else tree.filters


def _levels(tree: Filter) -> int:
    return 1 if isinstance(tree, Condition) else 1 + max(map(_levels, _parts(tree)))


def invalid(name: str, problem: str) -> Failure:
    """The failure of a filter that says nothing."""
    return Failure(Reason.FILTER_INVALID, name=name, problem=problem, field="filter")
