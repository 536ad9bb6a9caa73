"""Jobs that read the same rows alike, as the members of a sweep do, have them in memory once.

Invariant: what is handed out a second time is what reading would have given: all that rows depend on is compared
(`material.Source`), but the base, which all jobs of a worker have in common.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.trainer.joint.dataset import Splits
from services.trainer.joint.encoder import DatasetEncoder, Encoded
from services.trainer.material import Source
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class _Known:
    """Rows while some job holds them, and what else was read with them."""

    splits: "weakref.ref[Splits]"
    messages: tuple[str, ...]
    facts: Mapping[str, object]


class Sharing:
    """A DatasetEncoder in front of another one, which it asks only for what no job holds."""

    def __init__(self, encoder: DatasetEncoder) -> None:
        self._encoder = encoder
        self._known: dict[Source, _Known] = {}

    def encode(self, folder: Path, size_bytes: int) -> Encoded:
        """As DatasetEncoder.encode."""
        source = Source.of(Work.read(folder))
        known = self._known.get(source)
        if known is not None and (held := known.splits()) is not None:
            return Encoded(held, known.messages, known.facts)
        encoded = self._encoder.encode(folder, size_bytes)
        self._known = {one: rows for one, rows in self._known.items() if rows.splits() is not None}
        self._known[source] = _Known(weakref.ref(encoded.splits), encoded.messages, encoded.facts)
        return encoded

    def close(self) -> None:
        """As DatasetEncoder.close."""
        self._encoder.close()
