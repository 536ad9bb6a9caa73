"""Every class, and the corpus: the same adapters from the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.load.generator.corpus.configs import CONFIGS
from tests.load.generator.corpus.files import FILES, Maker
from tests.load.generator.corpus.make import Files, good
from tests.load.generator.corpus.tensors import TENSORS

CLASSES: dict[str, Maker] = FILES | TENSORS | CONFIGS
VARIANTS = 6
SEED = 20_32


@dataclass(frozen=True)
class Specimen:
    """One adapter of the corpus."""

    kind: str
    number: int
    files: Files


def corpus(shapes: Mapping[str, tuple[int, int]], variants: int = VARIANTS, seed: int = SEED) -> Iterator[Specimen]:
    """``variants`` adapters of each class; ``shapes`` are [out, in] of the base's modules."""
    for kind, make in CLASSES.items():
        for number in range(variants):
            draw = random.Random(f"{seed} {kind} {number}")
            yield Specimen(kind, number, make(good(draw, shapes)))
