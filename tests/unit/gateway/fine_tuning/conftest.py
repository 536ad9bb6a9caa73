from collections.abc import Iterator

import pytest

from services.chassis.context import serving
from tests.unit.gateway.fine_tuning.fakes import ASKING, World


@pytest.fixture
def world() -> Iterator[World]:
    """A tuner over fakes, with a file, asked by somebody of the tenant acme."""
    world = World()
    world.files.put("file-a", b'{"messages": []}\n')
    with serving(ASKING):
        yield world
