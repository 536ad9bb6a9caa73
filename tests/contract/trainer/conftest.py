from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.trainer.deployment import Caller, deployed
from tests.unit.trainer.tiny import make_base


@pytest.fixture(scope="session")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A principal that may do everything, over running services."""
    base: Path = make_base(tmp_path_factory.mktemp("base") / "tiny")
    with deployed(tmp_path_factory.mktemp("trainer"), base) as deployment, deployment.caller() as caller:
        yield caller
