"""Prelude of a retriever that dies when it has committed a change and not yet told its index: ``test_index_away.py``."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from services.retriever.index.index import Entry
from services.retriever.index.routing import Router

_replace = Router.replace


def replace(self: Router, collection: int, add: Sequence[Entry], remove: Sequence[int]) -> None:
    """As before, unless the test has armed us."""
    if Path(os.environ["TRIVIUM_TEST_ARMED"]).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    _replace(self, collection, add, remove)


Router.replace = replace  # type: ignore[method-assign]  # this process is to die there
