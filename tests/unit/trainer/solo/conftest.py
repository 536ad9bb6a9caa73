import os
from collections.abc import Iterator

import pytest

from services.trainer.solo import libraries


@pytest.fixture(autouse=True, scope="package")
def _prepared() -> Iterator[None]:
    """The libraries as a process that trains has them; other tests' processes inherit none of it."""
    before = dict(os.environ)
    libraries.prepare()
    yield
    os.environ.clear()
    os.environ.update(before)
