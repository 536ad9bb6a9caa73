"""What each question is taught: a passage that answers it, and passages that only seem to.

Invariant: negatives are what the collection's own search finds and the question's documents do not hold; a text that
stands in one of these documents as well is none.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from trivium_client import Trivium

from services.ops.tuning.passages import Library, Passage, Told, passage
from services.ops.tuning.questions import Question
from services.ops.tuning.refusal import Untrainable

# As many as are looked at again by default, where the retriever reranks.
DEPTH = 40


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gives for a question, best first, with the fused scores."""

    question: Question
    passages: tuple[Passage, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A question, the passage that answers it best, and as many as wanted that do not, the likeliest first.

    ``right`` are all passages of the documents that answer it.
    """

    question: str
    positive: str
    negatives: tuple[str, ...]
    right: frozenset[str]

    @property
    def passages(self) -> tuple[str, ...]:
        """What it puts into a batch."""
        return self.positive, *self.negatives


def require_documents(questions: Iterable[Question], library: Library) -> None:
    """Raises Untrainable, naming some, when questions name documents that the library lacks."""
    unknown = sorted(frozenset().union(*(it.documents for it in questions)) - library.documents)
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise Untrainable(
            f"{library.collection} has no passages of {', '.join(unknown[:5])}{more} that you may read. Compare their ids "
            f"with those of: trivium docs list -c {library.collection}"
        )


def searched(
    client: Trivium, collection: str, questions: Sequence[Question], told: Told, *, rerank: bool = False
) -> list[Found]:
    """What the collection's search finds for each question, by both lists and without what a generator would add."""
    found = []
    for number, question in enumerate(questions):
        told("searching", number, len(questions))
        hits = client.docs.search(
            question.text,
            collections=[collection],
            top_k=DEPTH,
            mode="hybrid",
            rerank=rerank,
            hyde="off",
            decompose=False,
        )
        found.append(Found(question, tuple(map(passage, hits)), tuple(hit.score for hit in hits)))
    return found


def lessons(client: Trivium, found: Sequence[Found], library: Library, negatives: int) -> list[Lesson]:
    """A lesson for each document of each question, all with equally many negatives.

    Where a search finds too few others, passages that a digest draws fill up.  Raises Untrainable where every passage
    answers some question.
    """
    texts: dict[str, set[str]] = {}
    for held in library.passages:
        texts.setdefault(held.document, set()).add(held.text)
    made = []
    for it in found:
        own = set().union(*(texts[name] for name in it.question.documents))
        others = [text for text in dict.fromkeys(each.text for each in it.passages) if text not in own]
        drawn = _drawn(it.question.text, library, own.union(others), negatives - len(others))
        positives = dict.fromkeys(_best(client, it, name, library) for name in sorted(it.question.documents))
        made += [
            Lesson(it.question.text, text, tuple([*others, *drawn][:negatives]), frozenset(own)) for text in positives
        ]
    least = min(len(it.negatives) for it in made)
    if not least:
        raise Untrainable("a question is answered by every passage: leave it out, or add documents that do not")
    return [replace(it, negatives=it.negatives[:least]) for it in made]


def _best(client: Trivium, found: Found, document: str, library: Library) -> str:
    """The passage of a document that the search ranks first for a question."""
    for it in found.passages:
        if it.document == document:
            return it.text
    hits = client.docs.search(
        found.question.text,
        collections=[library.collection],
        documents=[document],
        top_k=1,
        mode="hybrid",
        rerank=False,
        hyde="off",
        decompose=False,
    )
    return passage(hits[0]).text


def _drawn(question: str, library: Library, but: set[str], count: int) -> list[str]:
    """So many texts beside these, in an order that the question's digest gives."""
    if count <= 0:
        return []
    rest = {it.text for it in library.passages} - but
    return sorted(rest, key=lambda text: hashlib.sha256(f"{question}\0{text}".encode()).digest())[:count]
