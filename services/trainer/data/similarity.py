"""Which rows say nearly the same, found without comparing each with each.

MinHash over groups of three words with banding (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", 3.4): rows that share a band are compared by their signatures.  Invariant: time and memory grow with the
number of rows, and a row's answer depends on the rows before it alone.
"""

import re
import zlib
from typing import Any

import numpy

_PERMUTATIONS = 64
# Bands of four: rows that share 0.7 of their word groups meet with probability 0.99, those that share 0.3 with 0.12.
_BANDS = 16
# Rows whose word groups agree in this share say nearly the same.
THRESHOLD = 0.7
# Of a longer row its beginning is compared.
_MAX_WORDS = 4096
# Rows of fewer words are the same only when all their words are: two answers to one question differ in one.
_FEW_WORDS = 12
_PRIME = (1 << 31) - 1


class Similar:
    """The rows seen so far."""

    def __init__(self) -> None:
        generator = numpy.random.default_rng(0)
        # [1, permutations]: products stay below 2^62.
        self._factors: Any = generator.integers(1, _PRIME, (1, _PERMUTATIONS), dtype=numpy.int64)
        self._offsets: Any = generator.integers(0, _PRIME, (1, _PERMUTATIONS), dtype=numpy.int64)
        self._signatures: list[Any] = []
        self._lines: list[int] = []
        self._bands: dict[tuple[int, bytes], list[int]] = {}
        self._short: dict[bytes, int] = {}

    def find(self, text: str) -> int | None:
        """Return the line of the first row that says nearly the same."""
        words = _words(text)
        if len(words) < _FEW_WORDS:
            return self._short.get(_joined(words))
        signature = self._signature(words)
        met = {place for key in _keys(signature) for place in self._bands.get(key, ())}
        for place in sorted(met):
            if numpy.mean(signature == self._signatures[place]) >= THRESHOLD:
                return self._lines[place]
        return None

    def add(self, line: int, text: str) -> None:
        """Remember a row."""
        words = _words(text)
        if len(words) < _FEW_WORDS:
            self._short.setdefault(_joined(words), line)
            return
        signature = self._signature(words)
        for key in _keys(signature):
            # Where many meet, one of them says enough of the rest.
            places = self._bands.setdefault(key, [])
            if len(places) < 8:
                places.append(len(self._signatures))
        self._signatures.append(signature)
        self._lines.append(line)

    def _signature(self, words: list[str]) -> Any:
        """[permutations] int32: of each permutation the smallest number of a word group."""
        groups = {" ".join(words[start : start + 3]) for start in range(len(words) - 2)}
        # One row a word group, one column a permutation.
        numbers = numpy.fromiter((zlib.crc32(group.encode()) % _PRIME for group in groups), numpy.int64)[:, None]
        return ((numbers * self._factors + self._offsets) % _PRIME).min(axis=0).astype(numpy.int32)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())[:_MAX_WORDS]


def _joined(words: list[str]) -> bytes:
    return " ".join(words).encode()


def _keys(signature: Any) -> list[tuple[int, bytes]]:
    size = _PERMUTATIONS // _BANDS
    return [(band, signature[band * size : (band + 1) * size].tobytes()) for band in range(_BANDS)]
