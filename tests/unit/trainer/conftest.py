from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.trainer.data.datasets import Datasets
from tests.unit.trainer import dataset_uploads
from tests.unit.trainer.scripted import World, opened
from tests.unit.trainer.tiny import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's folder."""
    import torch

    # Tiny tensors gain nothing from a second thread and lose much where others run beside us.
    torch.set_num_threads(1)
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A runner's surroundings."""
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def datasets(tmp_path: Path, base: Path) -> AsyncIterator[Datasets]:
    """The verbs over a database of their own, whose counting needs no process."""
    async with dataset_uploads.opened(tmp_path, dataset_uploads.Inline(base)) as datasets:
        yield datasets
