"""The passages of a collection as its model sees them, read through the SDK with the caller's key.

Invariant: only searches fetch passages, so whoever trains sees what they may read, and nothing else is learned.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from trivium_client import Trivium
from trivium_client.nouns import Document, Hit

from services.ops.tuning.refusal import Untrainable
from services.retriever.text import chunking

# What one search gives at most, over all its pages, and the documents that it may name.
_MOST_PASSAGES = 1000
_MOST_DOCUMENTS = 1000

Told = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage: the document that it is of, its id, and its text behind its headings, as it is embedded."""

    document: str
    chunk: str
    text: str


@dataclass(frozen=True, slots=True)
class Library:
    """All passages of a collection, in order, and how many could not be had (of documents with more than 1,000)."""

    collection: str
    passages: tuple[Passage, ...]
    missing: int

    @property
    def documents(self) -> frozenset[str]:
        """The documents that have passages."""
        return frozenset(it.document for it in self.passages)


def passage(hit: Hit) -> Passage:
    """A hit as it is embedded: under the fullest of its contexts, which nearly every passage has."""
    contexts = chunking.contexts(hit.title, hit.heading_path)
    text = f"{contexts[0]}\n{hit.text}" if contexts else hit.text
    return Passage(hit.span.document, hit.span.chunk, text)


def fetched(client: Trivium, collection: str, told: Told) -> Library:
    """Every passage of the collection that the caller may read.

    Raises NotFoundError for a collection that there is none of, Untrainable for one without passages.
    """
    documents = [it for it in client.docs.list(collection) if it.serving_version and it.chunks]
    found: dict[str, list[Passage]] = defaultdict(list)
    done = 0
    for names in _rounds(documents):
        told("reading passages", done, len(documents))
        # Vectors compare any two texts, so that what is looked for does not matter: all passages are found.
        hits = client.docs.search_pages("what is this about?", collections=[collection], mode="dense", documents=names)
        for hit in hits:
            found[hit.span.document].append(passage(hit))
        done += len(names)
    ordered = [it for name in sorted(found) for it in sorted(found[name], key=lambda it: it.chunk)]
    if not ordered:
        cure = f"Add documents (trivium docs add FOLDER -c {collection}), or use a key that may read them"
        raise Untrainable(f"{collection} has no passages that you may read. {cure}")
    readable = sum(it.chunks for it in documents if it.document in found)
    return Library(collection, tuple(ordered), max(0, readable - len(ordered)))


def _rounds(documents: Sequence[Document]) -> Iterator[list[str]]:
    """Documents whose passages one search gives."""
    names: list[str] = []
    passages = 0
    for it in documents:
        if names and (passages + it.chunks > _MOST_PASSAGES or len(names) == _MOST_DOCUMENTS):
            yield names
            names, passages = [], 0
        names.append(it.document)
        passages += it.chunks
    if names:
        yield names
