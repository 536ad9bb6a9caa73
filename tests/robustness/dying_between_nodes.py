"""Prelude of a retriever that dies when it has kept some nodes of a summary tree: ``test_summary_survives.py``."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from services.retriever.summaries import nodes
from services.retriever.summaries.nodes import Made, Maker

_keep = nodes.keep


def keep(session: Session, maker: Maker, made: Sequence[Made]) -> bool:
    """As before; where the test has armed us, the first nodes are kept and the next ones are not."""
    armed = Path(os.environ["TRIVIUM_TEST_ARMED"])
    if armed.exists():
        if armed.read_text():
            os.kill(os.getpid(), signal.SIGKILL)
        armed.write_text("kept")
    return _keep(session, maker, made)


nodes.keep = keep
