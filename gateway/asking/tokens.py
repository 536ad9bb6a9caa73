"""The probabilities of an answer's tokens on their way out, each with the text that it tells.

The engine tells tokens and text beside each other, not always in the same piece: where texts stop an answer its text lags
behind its tokens.  So tokens are laid along the text as it came, and wait for what becomes of their characters.
Invariant: a token leaves only when every one of its characters but white space has left as it came, and in the order of
the text.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gateway.generation import TokenLogprob


@dataclass(frozen=True, slots=True)
class Stretch:
    """``came`` characters of the model's in whose place ``left`` may leave: the same ones if ``kept``, else others."""

    came: int
    left: int
    kept: bool


def stretches(came: str, left: str) -> list[Stretch]:
    """What became of a text: the same characters around at most one place that was changed."""
    if came == left:
        return [Stretch(len(came), len(left), kept=True)] if came else []
    most = min(len(came), len(left))
    before = next((at for at in range(most) if came[at] != left[at]), most)
    most -= before
    behind = next((at for at in range(most) if came[-1 - at] != left[-1 - at]), most)
    changed = Stretch(len(came) - before - behind, len(left) - before - behind, kept=False)
    found = (Stretch(before, before, kept=True), changed, Stretch(behind, behind, kept=True))
    return [it for it in found if it.came or it.left]


@dataclass(frozen=True, slots=True)
class _Place:
    """Of so many tokens, the last of which has a text: its characters but white space, and where it ends with that."""

    tokens: int
    start: int
    stop: int
    end: int


class Tokens:
    """The tokens of one answer that have not left yet."""

    def __init__(self) -> None:
        self._pending: deque[TokenLogprob] = deque()
        # Text from character `_at` of the model's on, along which no token was laid yet.
        self._text = ""
        self._at = 0
        # Where tokens cannot be laid along the text, all that are left leave at its end, or none.
        self._lost = False
        # What became of the model's characters up to `_decided`: those in [start, end) of these did not leave.
        self._decided = 0
        self._gone: deque[tuple[int, int]] = deque()
        self._guarded: deque[Stretch] = deque()

    def came(self, text: str, tokens: Sequence[TokenLogprob]) -> None:
        """Take in the model's next text and tokens."""
        if not tokens and not self._pending and not self._text:
            # Text that nobody asked the tokens of, or that a content policy put in place of the model's.
            self._at += len(text)
            return
        self._text += text
        self._pending.extend(tokens)

    def guarded(self, found: Iterable[Stretch]) -> None:
        """What became of the model's next characters before they may leave."""
        self._guarded.extend(found)

    def passed(self, characters: int, *, left: bool) -> None:
        """So many more of the characters that may leave did, or were withheld."""
        while self._guarded:
            first = self._guarded[0]
            taken = min(characters, first.left)
            characters -= taken
            if first.kept:
                self._decide(taken, left=left)
            elif taken == first.left:
                self._decide(first.came, left=False)
            if taken < first.left:
                came = first.came - taken if first.kept else first.came
                self._guarded[0] = replace(first, came=came, left=first.left - taken)
                return
            self._guarded.popleft()

    def _decide(self, characters: int, *, left: bool) -> None:
        if characters and not left:
            self._gone.append((self._decided, self._decided + characters))
        self._decided += characters

    def leaving(self) -> tuple[TokenLogprob, ...]:
        """The tokens that leave with what has left by now."""
        leaving: list[TokenLogprob] = []
        self._forget()
        while not self._lost and (place := self._place()) is not None:
            start, stop = self._at + place.start, self._at + place.stop
            if self._decided < stop:
                break
            several = [self._pending.popleft() for _ in range(place.tokens)]
            if not any(gone < stop and start < end for gone, end in self._gone):
                leaving += several
            self._text, self._at = self._text[place.end :], self._at + place.end
            self._forget()
        return tuple(leaving)

    def rest(self) -> tuple[TokenLogprob, ...]:
        """The same when nothing more comes.  A token whose text never came whole (a stop cut it) stays."""
        leaving = self.leaving()
        pending = tuple(self._pending)
        self._pending.clear()
        if self._lost:
            return leaving if self._gone else (*leaving, *pending)
        return (*leaving, *(token for token in pending if not token.token))

    def _forget(self) -> None:
        """What became of characters along which tokens were laid is of no use any more."""
        while self._gone and self._gone[0][1] <= self._at:
            self._gone.popleft()

    def _place(self) -> _Place | None:
        """Where the next token's text stands in what is held; None while it has not come."""
        # A token without a text is a part of the next one's first character.
        silent = next((at for at, token in enumerate(self._pending) if token.token), None)
        if silent is None:
            return None
        said = self._pending[silent].token
        if self._text.startswith(said):
            bare = said.strip() or said
            start = said.index(bare)
            return _Place(silent + 1, start, start + len(bare), len(said))
        if said.startswith(self._text):
            return None
        # Told alone, tokens of some vocabularies lose the space before them, or have one that the text begins without.
        bare = said.lstrip()
        rest = self._text.lstrip()
        start = len(self._text) - len(rest)
        if rest.startswith(bare):
            return _Place(silent + 1, start, start + len(bare.rstrip()), start + len(bare))
        self._lost = not bare.startswith(rest)
        return None
