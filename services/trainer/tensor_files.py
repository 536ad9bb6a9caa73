"""Writing safetensors fails as writing any other file does.

The library hides what the system said (no space left, no such folder) in an error of its own, which nobody would tell
from a defect.
Invariant: inside `system_errors` whatever the system refuses comes out as OSError with its number.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

_NUMBER = re.compile(r"\(os error (\d+)\)")


@contextmanager
def system_errors() -> Iterator[None]:
    """Raise OSError for what the system refuses safetensors."""
    try:
        yield
    except SafetensorError as error:
        if (found := _NUMBER.search(str(error))) is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error
