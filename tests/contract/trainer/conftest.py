from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.trainer.deployment import Caller, Deployment, deployed
from tests.unit.trainer.tiny import make_base


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Access, the registry and the trainer over a tiny base; `test_own_bases.py` has one that starts real processes."""
    base: Path = make_base(tmp_path_factory.mktemp("base") / "tiny")
    with deployed(tmp_path_factory.mktemp("trainer"), base, forking=True) as running:
        yield running


@pytest.fixture(scope="session")
def caller(deployment: Deployment) -> Iterator[Caller]:
    """A principal that may do everything, over running services."""
    with deployment.caller() as caller:
        yield caller
