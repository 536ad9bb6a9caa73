"""What a source brought and ingestion could not read: known only after the source's own reading has gone on.

Invariant: at rest, an object counts as stored or unchanged only if its document did not fail, and `found` is the sum.
"""

import hashlib

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.retriever.sources.queue import judge
from services.retriever.sources.sources import SourceState
from services.retriever.store import DocumentRow
from services.retriever.store_sources import SourceObjectRow, SourceRow

_AT_REST = (SourceState.READY, SourceState.FAILED)


def count(session: Session, document: DocumentRow) -> None:
    """The document has failed: so have the objects that it came from.  Call in the transaction that says so."""
    if not document.source_sha256:
        return
    mine = (
        SourceRow.collection_number == document.collection_number,
        SourceObjectRow.uri_digest == hashlib.sha256(document.document.encode()).digest(),
        SourceObjectRow.sha256 == document.source_sha256,
        SourceObjectRow.problem == "",
    )
    rows = select(SourceObjectRow, SourceRow).join(SourceRow, SourceRow.number == SourceObjectRow.source_number)
    for held, source in session.execute(rows.where(*mine)):
        held.problem = document.reason
        if held.reading != source.reading:
            # The reading under way has not come to it yet, and counts it when it does.
            continue
        if held.stored_in == held.reading:
            source.stored -= 1
        else:
            source.unchanged -= 1
        source.failed += 1
        if source.state in _AT_REST:
            judge(source)
