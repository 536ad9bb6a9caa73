import gc
import os
from collections.abc import Iterator

import pytest

from services.trainer.solo import libraries


@pytest.fixture(autouse=True, scope="package")
def _prepared() -> Iterator[None]:
    """The libraries as a process that trains has them; other tests' processes inherit none of it."""
    before = dict(os.environ)
    libraries.prepare()
    from services.trainer.solo import run

    assert run
    # accelerate collects garbage before it trains: over all that the libraries hold, that takes half a job's time.
    gc.freeze()
    yield
    gc.unfreeze()
    os.environ.clear()
    os.environ.update(before)
