from pathlib import Path

import pytest

from tests.unit.trainer.tiny import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's folder."""
    import torch

    # Tiny tensors gain nothing from a second thread and lose much where others run beside us.
    torch.set_num_threads(1)
    return make_base(tmp_path_factory.mktemp("base"))
