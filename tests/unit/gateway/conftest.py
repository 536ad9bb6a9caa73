"""What tests of several folders below stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.tracing import Trace


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An access that a test holds is waited for, however long the machine stalls meanwhile."""
    monkeypatch.setattr("gateway.receipts.RECORD_SECONDS", HANG_SECONDS)


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    """Everything that a test traces."""
    made = Trace(tmp_path)
    yield made
    made.telemetry.stop_tracing()
