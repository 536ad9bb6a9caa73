"""Where a long stretch is cut: places that its own words choose, as in content-defined chunking and prolly trees.

Invariant: where the next cut falls depends on nothing but the text between the last cut and
it, and of the places that may be taken the one whose words have the least hash wins.  Two
texts that are alike from some place on therefore come to cut at the same places soon after
it, wherever they began: an insertion moves a few cuts and not all that follow.
"""

import zlib
from collections.abc import Iterator

Span = tuple[int, int]

# Characters behind a cut that choose it: those of a word or two.
_TELLING_CHARACTERS = 16


def toss(text: str) -> int:
    """The hash by which words choose a cut; nothing but evenly spread, and the same in every process."""
    return zlib.crc32(text.encode())


def pieces(text: str, start: int, end: int, most: int) -> Iterator[Span]:
    """[start, end) in trimmed pieces of at most ``most`` characters, behind a space where there is one.

    Each but the last has at least half of that.
    """
    at = start
    while end - at > most:
        cut = _cut(text, max(at + 1, at + most // 2), at + most)
        yield from trimmed(text, at, cut)
        at = cut
    yield from trimmed(text, at, end)


def _cut(text: str, first: int, last: int) -> int:
    """One place of [first, last]."""
    spaces = [at for at in range(first, last + 1) if text[at - 1].isspace()]
    return min(spaces or range(first, last + 1), key=lambda at: (toss(text[at : at + _TELLING_CHARACTERS]), -at))


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """The span without blanks at its ends; nothing if it holds nothing else."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if left < len(piece):
        yield start + left, start + len(piece.rstrip())
