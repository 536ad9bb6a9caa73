"""What every part of the benchmark is given."""

from dataclasses import dataclass
from pathlib import Path

from tests.load.retriever.vectors import Encoder

Figures = dict[str, object]


@dataclass(frozen=True, slots=True)
class Bench:
    """The folder of the public sets, the names of those wanted, the model, and whether weights are to be fitted."""

    data: Path
    sets: tuple[str, ...]
    encoder: Encoder
    fit: bool
