"""The public sets as subjects to ask about: what is ingested, what is asked, and which words answer it.

Invariants: a question is trained on or tested, never both, and so is the document that answers it; a document that is
kept out is in no collection, so that nothing can answer its questions.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.load.retriever.sets import ORGANISATIONS, Source, multicorpus

_KIND = "md"


@dataclass(frozen=True, slots=True)
class Fact:
    """Words that answer, in a document.  ``near`` is where they stand in the file as published, -1 where nobody says."""

    document: str
    words: str
    near: int = -1


@dataclass(frozen=True, slots=True)
class Posed:
    """A question, the facts that answer it, and the answers that a reader would accept."""

    text: str
    facts: tuple[Fact, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """Documents to search in training and in the test, questions for both, and test questions nothing can answer.

    ``short``: the accepted answers are words of a text, so that an exact match means something.
    """

    name: str
    training_documents: tuple[Source, ...]
    test_documents: tuple[Source, ...]
    training: tuple[Posed, ...]
    test: tuple[Posed, ...]
    unanswerable: tuple[Posed, ...]
    short: bool


def subjects(data: Path, scale: float, seed: int) -> list[Subject]:
    """XQuAD's paragraphs, and the three organisations together; ``scale`` is the share of the questions."""
    return [_xquad(data, scale, seed), _organisations(data, scale, seed)]


def _xquad(data: Path, scale: float, seed: int) -> Subject:
    """Articles in turn to training and test; of the test's paragraphs every fifth is kept out."""
    articles = json.loads((data / "qa-xquad-en" / "xquad.en.first32.json").read_text())["data"]
    documents: dict[bool, list[Source]] = {True: [], False: []}
    posed: dict[str, list[Posed]] = {"training": [], "test": [], "unanswerable": []}
    for number, article in enumerate(articles):
        trained = number % 2 == 0
        for place, paragraph in enumerate(article["paragraphs"]):
            name = f"{article['title']}-{place}.txt"
            kept_out = not trained and place % 5 == 4
            if not kept_out:
                documents[trained].append(Source(name, paragraph["context"].encode()))
            split = "training" if trained else "unanswerable" if kept_out else "test"
            posed[split] += [_of_xquad(name, asked) for asked in paragraph["qas"]]
    drawn = {split: _drawn(asked, scale, seed) for split, asked in posed.items()}
    return Subject(
        name="xquad",
        training_documents=tuple(documents[True]),
        test_documents=tuple(documents[False]),
        training=drawn["training"],
        test=drawn["test"],
        unanswerable=drawn["unanswerable"],
        short=True,
    )


def _of_xquad(document: str, asked: dict[str, object]) -> Posed:
    found = asked["answers"]
    assert isinstance(found, list)
    first = found[0]
    answers = tuple(dict.fromkeys(str(answer["text"]) for answer in found))
    return Posed(str(asked["question"]), (Fact(document, first["text"], first["answer_start"]),), answers)


def _organisations(data: Path, scale: float, seed: int) -> Subject:
    """Documents in turn to training, test and (every fifth) kept out; a question goes where all its documents are."""
    corpora = multicorpus(data, _KIND).corpora
    names = sorted(source.document for corpus in corpora for source in corpus.documents)
    side = {
        name: ("training", "test", "training", "test", "unanswerable")[place % 5] for place, name in enumerate(names)
    }
    posed: dict[str, list[Posed]] = {"training": [], "test": [], "unanswerable": []}
    for organisation in ORGANISATIONS:
        for asked in _questions(data / "docs-rag-multi-corpus" / f"{organisation}.queries.csv", set(names)):
            sides = {side[fact.document] for fact in asked.facts}
            # A question over both sides would bring a document of the test into training.
            if len(sides) == 1:
                posed[sides.pop()].append(asked)
    sources = [source for corpus in corpora for source in corpus.documents]
    drawn = {split: _drawn(asked, scale, seed) for split, asked in posed.items()}
    return Subject(
        name="organisations",
        training_documents=tuple(source for source in sources if side[source.document] == "training"),
        test_documents=tuple(source for source in sources if side[source.document] != "unanswerable"),
        training=drawn["training"],
        test=drawn["test"],
        unanswerable=drawn["unanswerable"],
        short=False,
    )


def _questions(path: Path, names: set[str]) -> Iterable[Posed]:
    """The rows of a file, each question once; rows that name a file which is missing by that name are left out."""
    seen: set[str] = set()
    for row in csv.DictReader(io.StringIO(path.read_text())):
        found = [
            Fact(f"{fact['filename'].rpartition('.')[0]}.{_KIND}", " ".join(fact["text"].split()))
            for fact in json.loads(row["Supporting Facts"])
        ]
        facts = tuple(dict.fromkeys(fact for fact in found if fact.words))
        if row["Query"] not in seen and facts and all(fact.document in names for fact in facts):
            seen.add(row["Query"])
            yield Posed(row["Query"], facts, (" ".join(fact.words for fact in facts),))


def _drawn(posed: Sequence[Posed], scale: float, seed: int) -> tuple[Posed, ...]:
    """A share of the questions, the same ones for a seed."""
    order = sorted(posed, key=lambda it: hashlib.sha256(f"{seed} {it.text}".encode()).digest())
    return tuple(order[: max(2, round(len(order) * scale))])
