"""What may leave of a text that cannot be taken back.

Invariants: no marker leaves that names no source, whatever pieces it comes in; no quotation leaves in marks whose
characters stand in no source and not in the question; all other characters leave, in their order.
"""

import re
from collections.abc import Collection

from gateway.asking.citations import MARKER, OPENED, numbers
from gateway.asking.quotes import CLOSING, EITHER, Quotable, Quote, is_quotation
from gateway.asking.tokens import Stretch, stretches

# Longer ones are nobody's marker and nobody's quotation: they leave without what opened them.
_LONGEST_MARKER = 64
_LONGEST_QUOTATION = 1000
# Stands for what does not leave where its neighbours would else become a marker.
_SEAM = "-"
_OPEN = re.compile(r"\[[0-9,; ]*$")
_BEFORE_A_QUOTATION = " \t\n([{—–-:“„«‹「『"


class Guard:
    """Lets a text through piece by piece, holding back what is not decided yet."""

    def __init__(self, markers: Collection[int], quotable: Quotable) -> None:
        self._markers = frozenset(markers)
        self._quotable = quotable
        self._held = ""
        self._tail = " "
        self._left = 0
        self._unresolved: dict[int, None] = {}
        self._stretches: list[Stretch] = []
        self.quotes: list[Quote] = []

    @property
    def unresolved_markers(self) -> tuple[int, ...]:
        """The numbers that named no source, each once; they did not leave."""
        return tuple(self._unresolved)

    def push(self, text: str) -> str:
        """What may leave now that ``text`` has come."""
        self._held += text
        return self._released(final=False)

    def finish(self) -> str:
        """What is left when nothing more comes."""
        return self._released(final=True)

    def stretches(self) -> list[Stretch]:
        """What became of the characters that were decided since the last call, in their order."""
        found, self._stretches = self._stretches, []
        return found

    def _released(self, *, final: bool) -> str:
        gone: list[str] = []
        while self._held:
            held, told = self._held, len(self._stretches)
            piece = self._next(final=final)
            if piece is None:
                break
            if len(self._stretches) == told:
                self._stretches += stretches(held[: len(held) - len(self._held)], piece)
            if piece:
                gone.append(piece)
                self._left += len(piece)
                self._tail = (self._tail + piece)[-_LONGEST_MARKER:]
        return "".join(gone)

    def _next(self, *, final: bool) -> str | None:
        """The next piece, taken from what is held; None while it is not decided."""
        first = self._held[0]
        if first == "[":
            return self._marker(final=final)
        if first in " \t":
            return self._space(final=final)
        if first in CLOSING and (first not in EITHER or self._tail[-1] in _BEFORE_A_QUOTATION):
            return self._quotation(CLOSING[first], final=final)
        return self._take(next((at for at, sign in enumerate(self._held) if at and _stops(sign)), len(self._held)))

    def _take(self, length: int) -> str:
        piece, self._held = self._held[:length], self._held[length:]
        return piece

    def _space(self, *, final: bool) -> str | None:
        """White space leaves with what follows it: before a marker that does not leave it stays too."""
        rest = self._held.lstrip(" \t")
        length = len(self._held) - len(rest)
        if not rest:
            return self._take(length) if final else None
        if rest[0] != "[":
            return self._take(length)
        space = self._take(length)
        marker = self._marker(final=final)
        if marker is None:
            self._held = space + self._held
            return None
        return space + marker if marker else ""

    def _marker(self, *, final: bool) -> str | None:
        whole = MARKER.match(self._held)
        if whole is not None:
            return self._resolved(self._take(whole.end()))
        opened = OPENED.match(self._held)
        if opened is not None and opened.end() == len(self._held) and not final and len(self._held) < _LONGEST_MARKER:
            return None
        # Half a marker names nothing, whether the answer ended in it or it would not end.
        ended = final and opened is not None and opened.end() == len(self._held)
        if opened is not None and opened.end() > 1 and (ended or opened.end() >= _LONGEST_MARKER):
            self._take(opened.end())
            return self._seam()
        return self._take(1)

    def _seam(self, before: str = "") -> str:
        """What stands for something that does not leave behind ``before``."""
        return _SEAM if _OPEN.search(self._tail + before) else ""

    def _resolved(self, marker: str) -> str:
        named = numbers(marker)
        known = [number for number in named if number in self._markers]
        self._unresolved.update(dict.fromkeys(number for number in named if number not in self._markers))
        if len(known) == len(named) and named:
            return marker
        return f"[{', '.join(map(str, known))}]" if known else self._seam()

    def _quotation(self, closing: str, *, final: bool) -> str | None:
        end = next((at for at, sign in enumerate(self._held) if at and sign in closing), 0)
        # However it comes: what would be one of several paragraphs, or too long, is none.
        within = self._held[: end or None]
        if "\n\n" in within or len(within) > _LONGEST_QUOTATION or (final and not end):
            self._take(1)
            return self._seam()
        if not end:
            return None
        opened, inside, closed = self._take(1), self._take(end - 1), self._take(1)
        inner = Guard(self._markers, self._quotable)
        said = inner.push(inside) + inner.finish()
        self._unresolved.update(inner._unresolved)
        before, behind = self._marks(opened, said, closed)
        # Whatever became of its marks, what stands between them is told for itself.
        self._stretches += [*stretches(opened, before), *inner.stretches(), *stretches(closed, behind)]
        return before + said + behind

    def _marks(self, opened: str, said: str, closed: str) -> tuple[str, str]:
        """What leaves before and behind something that stood in marks."""
        if not is_quotation(said):
            return opened, closed
        place = self._quotable.find(MARKER.sub("", said))
        if place is None:
            opened, closed = self._seam(), self._seam(said)
        start = self._left + len(opened)
        self.quotes.append(Quote(start, start + len(said), place is not None, None if place is None else place.span))
        return opened, closed


def _stops(sign: str) -> bool:
    return sign in "[ \t" or sign in CLOSING
