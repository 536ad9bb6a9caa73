"""What every part of the benchmark is given."""

from dataclasses import dataclass
from pathlib import Path

from tests.load.retriever.vectors import Encoder

Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class Bench:
    """The folder of the public sets, the names of those wanted, the model, and how much is measured.

    ``sizes`` are the chunks of ``search``, on Weaviate as well if that is wanted; ``growth`` those of that part;
    ``append_chunks`` those of the collection that is appended to.  ``rounds``, ``documents`` and ``workers`` are of
    ``ingest``, whose documents may be ``short``, of a chunk or two each; ``questions`` those that ``expansions`` asks of
    a corpus.
    """

    data: Path
    sets: tuple[str, ...]
    encoder: Encoder
    rerank: bool
    fit: bool
    sizes: tuple[int, ...]
    growth: tuple[int, ...]
    append_chunks: int
    rounds: int
    documents: int
    workers: int
    short: bool
    weaviate: bool
    questions: int
