"""The whole suite, once a session: every service as `trivium up` starts it, with the real engine, on free ports."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.models import ModelSettings
from services.ops.supervisor import Suite, launch

# How long the generator believes the registry's word on a tenant and a version.
VERSION_CACHE_SECONDS = 1.0
# Folders of a model cache that begin empty: remembered digests, and the registry's full models.
_OF_ITS_OWN = ("digests", "full")


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """The suite's addresses and keys; see services.ops.supervisor.launching.Suite."""
    folder: Path = tmp_path_factory.mktemp("suite")
    with launch(folder, environment={**os.environ, **_settings(folder)}) as running:
        yield running


def _settings(folder: Path) -> dict[str, str]:
    """The settings that differ from `trivium up`, so that tests of engines can use this generator.

    One engine beside the default one is room enough, and little for it to hold; a refusal, a swap and a hung engine are
    noticed soon.  A step of an engine takes a second or two, however busy the machine is: far less than the stall.  What a
    generator adds to a search is never late.
    """
    return {
        "TRIVIUM_MODEL_CACHE_DIR": str(_model_cache(folder / "models")),
        "TRIVIUM_GENERATOR_MAX_ENGINES": "2",
        "TRIVIUM_GENERATOR_ENGINE_KV_CACHE_GIB": "0.1",
        "TRIVIUM_GENERATOR_ENGINE_PATIENCE_SECONDS": "1",
        "TRIVIUM_GENERATOR_ENGINE_STALL_SECONDS": "20",
        "TRIVIUM_GENERATOR_HEARTBEAT_SECONDS": "1",
        "TRIVIUM_GENERATOR_VERSION_CACHE_SECONDS": str(VERSION_CACHE_SECONDS),
        "TRIVIUM_RETRIEVER_EXPAND_SECONDS": "60",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "compiled"),
    }


def _model_cache(folder: Path) -> Path:
    """Make a model cache of the suite's own, which has what is prepared on this machine and forgets what tests add."""
    folder.mkdir()
    for known in ModelSettings().models_dir.glob("[!.]*"):
        if known.is_file():
            # The embedder's measurements of this machine; it may add to them.
            shutil.copy(known, folder)
        elif known.name not in _OF_ITS_OWN:
            (folder / known.name).symlink_to(known)
    return folder
