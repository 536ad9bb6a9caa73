"""Whether whoever asked hears an answer while it is made, or only when it is whole; and whether any of it has left.

Of an answer that breaks off the first has a part, which is used; the second has nothing.  Every answer leaves as it comes
unless it is said here that it does not: by a door that gives answers whole, and by what asks for the gateway's own use.  Who
holds back some of it, until it is judged or its sentence is checked, says so by a ``Leaving``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_held: ContextVar[bool] = ContextVar("trivium_answers_held", default=False)


def leaves() -> bool:
    """Whether what is answered now is heard while it comes."""
    return not _held.get()


def hold(whole: bool) -> None:
    """Say, for the rest of this task, whether answers are given whole."""
    _held.set(whole)


@contextmanager
def held() -> Iterator[None]:
    """Around what nobody hears before it is whole."""
    token = _held.set(True)
    try:
        yield
    finally:
        _held.reset(token)


class Leaving:
    """Whether any of one answer has left, of which parts are held back: said before the first of it does."""

    __slots__ = ("_first", "begun")

    def __init__(self) -> None:
        self.begun = False
        self._first: Callable[[], None] = _nothing

    def at_first(self, do: Callable[[], None]) -> None:
        """What is done before the first of it leaves."""
        self._first = do

    def begins(self) -> None:
        """A part is about to leave; only the first counts."""
        if not self.begun:
            self.begun = True
            self._first()


def _nothing() -> None:
    """Nobody wants to know."""
