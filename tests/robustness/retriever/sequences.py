"""Sequences of what happens to documents, and what must have been embedded after each, whatever died in between."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from services.retriever.ingestion.publishing import text_digest
from services.retriever.text.blocks import outline
from services.retriever.text.chunking import Budget, Measured, chunked, refined, texts_to_measure

COLLECTIONS = ("rules", "fares")
BUDGET = Budget.within(40, 24, 2)
WORDS = ("ferry", "lantern", "crown", "harbour", "tide", "mast", "rope", "keeper", "siren", "quay")
NAMES = ("a.md", "b.md", "c.txt", "d.md")


@dataclass(frozen=True)
class Put:
    """A document's next version: sections by number, each in one of three wordings."""

    collection: str
    document: str
    sections: tuple[tuple[int, int], ...]
    headings: bool
    title: str
    metadata: str

    @property
    def text(self) -> str:
        """What is put."""
        return "\n\n".join(_section(*each, heading=self.headings) for each in self.sections)

    @property
    def embedded(self) -> frozenset[str]:
        """The digests of what is embedded of it, in hexadecimal."""
        found = outline(self.text, markdown=self.document.endswith(".md"))
        title, measured = self.title or found.title, Measured()
        while True:
            for wanted in measured.missing(texts_to_measure(self.text, found, title)):
                measured.tokens[wanted] = tokens(wanted)
            finer = refined(self.text, found, measured, BUDGET)
            if finer is found:
                chunks = chunked(self.text, found, title, measured, BUDGET)
                return frozenset(text_digest(chunk.indexed_text).hex() for chunk in chunks)
            found = finer


@dataclass(frozen=True)
class Rename:
    """The document under another name: a put and a deletion, as a folder that is followed does it."""

    collection: str
    document: str
    becomes: str


@dataclass(frozen=True)
class Delete:
    """The document goes."""

    collection: str
    document: str


@dataclass(frozen=True)
class Settle:
    """Nothing goes on before all is searchable."""


Operation = Put | Rename | Delete | Settle


@dataclass(frozen=True)
class Sequence:
    """What happens, and after how many steps of a life each but the last life is ended."""

    operations: tuple[Operation, ...]
    kills: tuple[int, ...]

    @property
    def patient(self) -> "Sequence":
        """The same, with a wait after each."""
        return Sequence(tuple(each for one in self.operations for each in (one, Settle())), self.kills)


def tokens(text: str) -> int:
    """What the embedder of these tests counts."""
    return len(text.split())


def _section(number: int, wording: int, *, heading: bool) -> str:
    words = [WORDS[(number * 3 + at * (wording + 1)) % len(WORDS)] for at in range(5 + number % 4)]
    sentence = f"In part {number} the {' '.join(words)} costs {number * 7 + wording} crowns."
    # Every third section is longer than a chunk.
    body = " ".join([sentence, *(f"Rule {at} of part {number} stands." for at in range(12 if number % 3 == 2 else 0))])
    return f"## Part {number}\n\n{body}" if heading else body


def drawn(chance: random.Random, most_operations: int, last_kill: int) -> Sequence:
    """Return a random sequence of at least three operations and one to three kills, each at this step at the latest."""
    operations = tuple(_operation(chance) for _ in range(chance.randint(3, most_operations)))
    return Sequence(operations, tuple(chance.randint(1, last_kill) for _ in range(chance.randint(1, 3))))


def _operation(chance: random.Random) -> Operation:
    collection, document = chance.choice(COLLECTIONS), chance.choice(NAMES)
    match chance.randrange(5):
        case 0:
            return Rename(collection, document, chance.choice(NAMES))
        case 1:
            return Delete(collection, document)
        case _:
            sections = tuple((chance.randint(0, 7), chance.randint(0, 2)) for _ in range(chance.randint(1, 5)))
            title, metadata = chance.choice(("", "", "Guide")), chance.choice(("", "nl"))
            return Put(collection, document, sections, chance.random() < 0.5, title, metadata)


def shorter(sequence: Sequence) -> Iterator[Sequence]:
    """Yield this sequence without one of its operations, then without one of its kills."""
    for at in range(len(sequence.operations)):
        yield Sequence(sequence.operations[:at] + sequence.operations[at + 1 :], sequence.kills)
    for at in range(len(sequence.kills)):
        yield Sequence(sequence.operations, sequence.kills[:at] + sequence.kills[at + 1 :])


@dataclass
class Shelf:
    """What a sequence comes to: the documents at its end, and how often each text may have been new to the tenant."""

    documents: dict[tuple[str, str], Put] = field(default_factory=dict)
    arrivals: Counter[str] = field(default_factory=Counter)
    _texts: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    @classmethod
    def after(cls, sequence: Sequence) -> "Shelf":
        """The shelf at the end of a sequence."""
        shelf = cls()
        for operation in sequence.operations:
            shelf.apply(operation)
        return shelf

    def apply(self, operation: Operation) -> None:
        """One more thing happens."""
        if isinstance(operation, Put):
            self._put(operation)
        elif isinstance(operation, Delete):
            self._drop((operation.collection, operation.document))
        elif isinstance(operation, Rename):
            former = self.documents.get((operation.collection, operation.document))
            if former is not None and operation.becomes != operation.document:
                self._put(renamed(former, operation.becomes))
                self._drop((operation.collection, operation.document))

    def _put(self, put: Put) -> None:
        held = set().union(*self._texts.values()) if self._texts else set()
        self.arrivals.update(put.embedded - held)
        key = put.collection, put.document
        self.documents[key] = put
        self._texts.setdefault(key, set()).update(put.embedded)

    def _drop(self, key: tuple[str, str]) -> None:
        self.documents.pop(key, None)
        self._texts.pop(key, None)


def renamed(put: Put, document: str) -> Put:
    """The same under another name."""
    return Put(put.collection, document, put.sections, put.headings, put.title, put.metadata)


def encoded(sequence: Sequence) -> list[dict[str, Any]]:
    """The operations, plainly, renames as what they come to."""
    shelf, plain = Shelf(), []
    for operation in sequence.operations:
        if isinstance(operation, Rename):
            former = shelf.documents.get((operation.collection, operation.document))
            if former is not None and operation.becomes != operation.document:
                plain += [
                    _plain(renamed(former, operation.becomes)),
                    _plain(Delete(operation.collection, operation.document)),
                ]
        else:
            plain.append(_plain(operation))
        shelf.apply(operation)
    return plain


def _plain(operation: Operation) -> dict[str, Any]:
    text = {"text": operation.text} if isinstance(operation, Put) else {}
    return {"what": type(operation).__name__, **asdict(operation), **text}
