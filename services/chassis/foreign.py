"""What libraries raise that promise no type for it, in our own terms.

Beside the error interceptor the only place that catches whatever comes: vLLM for one
tells what went wrong in its engine's process as a bare Exception, so that nothing
narrower can be named.  Where a library does name its errors, catch those instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def translated(to: Callable[[Exception], Exception]) -> Iterator[None]:
    """Raise ``to(error)`` for any Exception that leaves the block; cancellation passes, which is none.

    Only the library's call belongs inside: an error of ours would be taken for one of its own.
    """
    try:
        yield
    except Exception as error:
        raise to(error) from error
