"""Documents and questions through a whole suite, where a model answers from what is found and cites it.

The deployment's small default model is asked as any caller may: freely, and in a form that begins with a marker, so that
what it still chooses is which source it names and the words.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trivium_client import Trivium
from trivium_client.answers import Answer, Sampling, Shape
from trivium_client.document_nouns import Span

from tests.load.retriever.manual_judging import Seen, Verdict, judged
from tests.load.retriever.manual_questions import Posed
from tests.load.retriever.sets import Source

MOST = 5
SOURCES = 3
# A marker, then words: an answer that begins with where it comes from.
IN_FORM = Shape(regex=rf"\[[1-{SOURCES}]\] [^\[\]\n]+")
FREELY = None
_SAMPLING = Sampling(max_tokens=24, temperature=0.0)


@dataclass(frozen=True, slots=True)
class Cited:
    """Of one answer: whether its prompt had a passage with the fact, and whether it cites one at the very characters.

    ``astray`` citations are not the stored characters.
    """

    text: str
    offered: bool
    cited: bool
    astray: int


def bring_in(client: Trivium, collection: str, sources: Sequence[Source]) -> Mapping[str, str]:
    """Add the documents as a folder of files and wait until all are searchable; why those are not that failed."""
    client.collections.create(collection)
    with tempfile.TemporaryDirectory() as folder:
        for it in sources:
            (Path(folder) / it.document).write_bytes(it.content)
        report = client.docs.add_folder(folder, collection=collection)
    failed = {it.path: it.reason for it in report.refused}
    for _ in client.docs.watch(collection):
        pass
    return failed | {it.document: it.reason for it in client.docs.list(collection) if it.state != "ready"}


def verdict(client: Trivium, collection: str, posed: Posed, content: bytes) -> Verdict:
    """Search as somebody who says nothing of how, and judge; ``content`` is the file that answers."""
    found = client.docs.search(posed.question, collections=[collection], top_k=MOST)
    pages = [(it.first_page, it.last_page) for it in found]
    seen = [Seen(it.span.document, it.text, stored(client, it.span), on) for it, on in zip(found, pages, strict=True)]
    return judged(posed, content, seen)


def ask(client: Trivium, collection: str, posed: Posed, shape: Shape | None) -> Cited:
    """Have the deployment's own model answer over the collection."""
    answer: Answer = client.answer(
        posed.question, collections=[collection], top_k=SOURCES, sampling=_SAMPLING, shape=shape
    )
    texts = {it.span: it.text for it in answer.sources}
    cited = {it.span for it in answer.citations}
    whole = {span for span in cited if stored(client, span) == texts[span]}
    return Cited(
        text=answer.text,
        offered=any(posed.answered_by(span.document, text) for span, text in texts.items()),
        cited=any(posed.answered_by(span.document, texts[span]) for span in whole),
        astray=len(cited - whole),
    )


def stored(client: Trivium, span: Span) -> str:
    """The characters at a span, as the retriever gives them to anybody who follows a citation."""
    there = client.docs.text(
        span.document, collection=span.collection, version=span.version, start=span.start, end=span.end
    )
    return there.text
