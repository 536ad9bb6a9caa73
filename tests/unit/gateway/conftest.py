"""What tests of several folders below stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.gateway.tracing import Trace


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    """Everything that a test traces."""
    made = Trace(tmp_path)
    yield made
    made.telemetry.stop_tracing()
