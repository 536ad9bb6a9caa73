"""Whether whoever asked hears an answer while it is made, or only when it is whole.

Of an answer that breaks off the first has a part, which is used; the second has nothing.  Every answer leaves as it comes
unless it is said here that it does not: by a door that gives answers whole, and by what asks for the gateway's own use; or
unless the content policy judges whole answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from gateway.policy import in_force
from gateway.policy.nouns import AnswerCheck

_held: ContextVar[bool] = ContextVar("trivium_answers_held", default=False)


def leaves() -> bool:
    """Whether what is answered now is heard while it comes."""
    force = in_force.now()
    judged_whole = force is not None and force.policy.answers is AnswerCheck.WHOLE
    return not (judged_whole or _held.get())


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
