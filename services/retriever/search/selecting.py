"""Which chunks a search may find: what its filters leave of what its viewer may read.

Invariant: decided in the catalog before an index ranks anything, so a list of the best
is never thinned out afterwards.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session

from services.retriever.documents.readers import any_restricted, readable
from services.retriever.search.filtering import passing, require_fitting
from services.retriever.search.filters import AllOf, Condition, Filter, Operator
from services.retriever.search.question import Question
from services.retriever.store import ChunkRow, DocumentRow


def allowed(session: Session, numbers: Sequence[int], question: Question) -> dict[int, frozenset[int] | None]:
    """By collection the chunks that may be found; None for all of it.  Raises FILTER_TYPE_MISMATCH."""
    visible = and_(DocumentRow.collection_number.in_(numbers), readable(question.viewer))
    if question.filter is not None:
        require_fitting(session, question.filter, visible)
    tree = whole_filter(question)
    return {number: _chunks(session, number, question, tree) for number in numbers}


def whole_filter(question: Question) -> Filter | None:
    """The question's filter and its plain pairs as one."""
    pairs = (Condition(name, Operator.EQUAL, (value,)) for name, value in sorted(question.metadata_equals.items()))
    parts: tuple[Filter, ...] = (*pairs, *((question.filter,) if question.filter is not None else ()))
    return parts[0] if len(parts) == 1 else AllOf(parts) if parts else None


def described(question: Question) -> tuple[str, ...]:
    """The filters in words."""
    tree = whole_filter(question)
    named = (f"document in ({', '.join(map(repr, question.documents))})",) if question.documents else ()
    return (*named, *((str(tree),) if tree is not None else ()))


def document_tests(question: Question) -> list[ColumnElement[bool]]:
    """What a document must meet, as conditions on DocumentRow."""
    tests = [readable(question.viewer)]
    if question.documents:
        tests.append(DocumentRow.document.in_(question.documents))
    tree = whole_filter(question)
    return tests if tree is None else [*tests, passing(tree)]


def _chunks(session: Session, number: int, question: Question, tree: Filter | None) -> frozenset[int] | None:
    if tree is None and not question.documents and not any_restricted(session, number):
        return None
    query = (
        select(ChunkRow.chunk)
        .join(DocumentRow, DocumentRow.number == ChunkRow.document_number)
        .where(ChunkRow.collection_number == number, *document_tests(question))
    )
    return frozenset(session.scalars(query))
