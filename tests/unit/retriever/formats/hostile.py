"""Files that nobody should be able to hurt a reader with, built by code: over fifty classes, each in many variants."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.unit.retriever.formats import hostile_pdf, hostile_slides, hostile_text, hostile_word

BUILDERS = {
    **hostile_pdf.register.builders,
    **hostile_word.register.builders,
    **hostile_slides.register.builders,
    **hostile_text.register.builders,
}


@dataclass(frozen=True)
class Hostile:
    """A file, its class, and what the reason that it fails with must say."""

    kind: str
    name: str
    content: bytes
    says: str


def hostile_files(count: int, seed: int) -> Iterator[Hostile]:
    """So many files, every class as often as the others."""
    kinds = list(BUILDERS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        name, content, says = BUILDERS[kind](random.Random(f"{seed} {number}"))
        yield Hostile(kind, name, content, says)
