"""The leaves of a collection's summary trees: its chunks, a tree for each list of readers.

Documents that the same ids may read share a tree, so every node is of documents that can be
read together: who may read one of its leaves may read all.  Invariants: the order of leaves
is that of document ids by code points and of characters, whatever came first; a leaf's
digest names its document, its text and nothing else, so what an edit leaves alone keeps it,
and the same documents have trees of one shape wherever they are.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from services.retriever import catalog
from services.retriever.documents.readers import readable
from services.retriever.search.filtering import passing, require_fitting
from services.retriever.store import ChunkRow, DocumentRow
from services.retriever.summaries.question import Request
from services.retriever.summaries.tree import Level, levels

# First and last character, number and content address.
_Chunk = tuple[int, int, int, bytes]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A chunk as a leaf."""

    digest: bytes
    chunk: int
    document_number: int


@dataclass(frozen=True, slots=True)
class Grove:
    """A tree and its leaves; ``wanted`` where the viewer may read them and they were asked for."""

    leaves: tuple[Leaf, ...]
    wanted: bool

    def levels(self) -> tuple[Level, ...]:
        """The tree's nodes."""
        return levels([leaf.digest for leaf in self.leaves])


@dataclass(frozen=True, slots=True)
class Forest:
    """The trees of a collection at one moment, and the model of its vectors ("" while it has none)."""

    tenant: str
    collection_number: int
    embedding_digest: str
    groves: tuple[Grove, ...]
    # Of the collection.
    version: str = ""


def forest(session: Session, tenant: str, asked: Request) -> Forest:
    """Every tree of the collection; of a part of it, only what the viewer may read of that part.

    Raises COLLECTION_NOT_FOUND and FILTER_TYPE_MISMATCH.
    """
    collection = catalog.require(session, tenant, asked.collection)
    documents = _documents(session, collection.number, asked)
    chunks: dict[int, list[_Chunk]] = defaultdict(list)
    columns = ChunkRow.document_number, ChunkRow.start, ChunkRow.end, ChunkRow.chunk, ChunkRow.text_digest
    query = select(*columns).where(ChunkRow.collection_number == collection.number)
    for number, start, end, chunk, text_digest in session.execute(query):
        chunks[number].append((start, end, chunk, text_digest))
    leaves: dict[tuple[str, bool], list[Leaf]] = defaultdict(list)
    for number, (name, readers, wanted) in sorted(documents.items(), key=lambda it: it[1][0]):
        leaves[readers, wanted] += _leaves(number, name, sorted(chunks.get(number, ())))
    groves = [Grove(tuple(found), wanted) for (_, wanted), found in sorted(leaves.items()) if found]
    return Forest(tenant, collection.number, collection.embedding_digest, tuple(groves), collection.version)


def _leaves(number: int, name: str, chunks: Sequence[_Chunk]) -> Iterator[Leaf]:
    """A document's leaves in order; what it says twice is two of them."""
    said: Counter[bytes] = Counter()
    named = hashlib.sha256(name.encode()).digest()
    for start, end, chunk, text_digest in chunks:
        # The text that is indexed has the headings in front: with its length, it says where the chunk's own begins.
        numbers = (end - start).to_bytes(8, "big") + said[text_digest].to_bytes(8, "big")
        said[text_digest] += 1
        yield Leaf(hashlib.sha256(named + text_digest + numbers).digest(), chunk, number)


def _documents(session: Session, number: int, asked: Request) -> dict[int, tuple[str, str, bool]]:
    """By document its id, its readers, and whether it is to be summarised; of a part, only those that are."""
    mine, visible = DocumentRow.collection_number == number, readable(asked.viewer)
    tests = [visible]
    if asked.documents:
        tests.append(DocumentRow.document.in_(asked.documents))
    if asked.filter is not None:
        require_fitting(session, asked.filter, mine & visible)
        tests.append(passing(asked.filter))
    query = select(DocumentRow.number, DocumentRow.document, DocumentRow.readers_json, and_(*tests)).where(mine)
    return {row[0]: (row[1], row[2], bool(row[3])) for row in session.execute(query) if asked.is_of_all or bool(row[3])}
