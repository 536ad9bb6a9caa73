"""Filters as SQL, for SQLite and PostgreSQL alike.

Invariant: each condition is an EXISTS over the values of a document, which is true or
false and never NULL; so NOT, however deep, is the exact complement also where a field is
missing or of another type.
"""

from collections.abc import Callable, Sequence

from sqlalchemy import ColumnElement, and_, func, not_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from services.chassis.errors import Failure, Reason
from services.retriever.documents.attributes import Kind, Moment, Value, folded, kind_of
from services.retriever.search.filters import AllOf, AnyOf, Condition, Filter, Negated, Operator, conditions
from services.retriever.store import DocumentRow, MetadataRow

Truth = ColumnElement[bool]


def passing(tree: Filter) -> Truth:
    """The condition on DocumentRow that a checked filter is."""
    if isinstance(tree, AllOf):
        return and_(*map(passing, tree.filters))
    if isinstance(tree, AnyOf):
        return or_(*map(passing, tree.filters))
    if isinstance(tree, Negated):
        return not_(passing(tree.filter))
    if tree.operator is Operator.CONTAINS_ALL:
        return and_(*(_has(tree, _any_of(tree, (value,))) for value in tree.values))
    return _has(tree, _test(tree))


def require_fitting(session: Session, tree: Filter, visible: Truth) -> None:
    """Raises FILTER_TYPE_MISMATCH where a field is there, in the documents that are ``visible``, with other types alone."""
    for condition in conditions(tree):
        wanted = condition.stored_kind
        if wanted is None:
            continue
        query = (
            select(MetadataRow.kind)
            .join(DocumentRow, DocumentRow.number == MetadataRow.document_number)
            .where(visible, MetadataRow.collection_number == DocumentRow.collection_number)
            .where(MetadataRow.name == condition.field)
            .distinct()
        )
        stored = {Kind[name] for name in session.scalars(query)}
        if stored and wanted not in stored:
            raise _mismatch(condition, stored)


def _mismatch(condition: Condition, stored: set[Kind]) -> Failure:
    if stored == {Kind.TEXTS}:
        remedy = "Use CONTAINS_ANY or CONTAINS_ALL (on the command line FIELD:TEXT) for a list"
    elif condition.stored_kind is Kind.TEXTS:
        remedy = "Use IN, EQUAL (on the command line FIELD=VALUE) or another operator for single values"
    else:
        remedy = (
            f"Give a value of type {' or '.join(sorted(stored))}, or store the field anew with the type that you mean"
        )
    return Failure(
        Reason.FILTER_TYPE_MISMATCH,
        name=condition.field,
        stored=" and ".join(sorted(stored)),
        asked=condition.stored_kind,
        operator=condition.operator.name,
        remedy=remedy,
        field="filter",
    )


def _has(condition: Condition, test: Truth | None) -> Truth:
    """Whether the document has a value of the field that meets the test."""
    query = select(MetadataRow.name).where(
        MetadataRow.document_number == DocumentRow.number, MetadataRow.name == condition.field
    )
    if condition.stored_kind is not None:
        query = query.where(MetadataRow.kind == condition.stored_kind.name)
    if test is not None:
        query = query.where(test)
    return query.correlate(DocumentRow).exists()


def _test(condition: Condition) -> Truth | None:
    """The test of one value, of the type that the condition is about."""
    operator, values = condition.operator, condition.values
    if operator is Operator.EXISTS:
        return None
    if operator in (Operator.IN, Operator.CONTAINS_ANY):
        return _any_of(condition, values)
    if operator is Operator.NOT_IN:
        return not_(_any_of(condition, values))
    column = _column(condition)
    first = _operand(condition, values[0])
    if operator is Operator.BETWEEN:
        return and_(column >= first, column < _operand(condition, values[1]))
    if operator in (Operator.PREFIX, Operator.CONTAINS):
        return _inside(operator, column, str(first))
    return _COMPARISONS[operator](column, first)


_COMPARISONS: dict[Operator, Callable[[InstrumentedAttribute[object], object], Truth]] = {
    Operator.EQUAL: lambda column, value: column == value,
    Operator.NOT_EQUAL: lambda column, value: column != value,
    Operator.LESS: lambda column, value: column < value,
    Operator.LESS_OR_EQUAL: lambda column, value: column <= value,
    Operator.GREATER: lambda column, value: column > value,
    Operator.GREATER_OR_EQUAL: lambda column, value: column >= value,
}


def _inside(operator: Operator, column: InstrumentedAttribute[object], text: str) -> Truth:
    # Not LIKE: in SQLite it overlooks the case of ASCII letters, and both give % and _ a meaning.
    if operator is Operator.PREFIX:
        return func.substr(column, 1, len(text)) == text
    return column.is_not(None) if not text else func.replace(column, text, "") != column


def _any_of(condition: Condition, values: Sequence[Value]) -> Truth:
    return _column(condition).in_([_operand(condition, value) for value in values])


def _column(condition: Condition) -> InstrumentedAttribute[object]:
    kind = kind_of(condition.values[0])
    column: object
    if kind is Kind.TEXT:
        column = MetadataRow.folded if condition.ignore_case else MetadataRow.text
    else:
        column = MetadataRow.micros if kind is Kind.TIME else MetadataRow.number
    assert isinstance(column, InstrumentedAttribute)
    return column


def _operand(condition: Condition, value: Value) -> object:
    if isinstance(value, str):
        return folded(value) if condition.ignore_case else value
    if isinstance(value, Moment):
        return value.micros
    return float(value) if isinstance(value, bool | float) else value
