"""The whole suite, once a session: every service as `trivium up` starts it, with the real engine, on free ports."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.ops.supervisor import Suite, launch


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite's addresses and keys; see services.ops.supervisor.launching.Suite."""
    folder: Path = tmp_path_factory.mktemp("suite")
    with launch(folder) as running:
        yield running
