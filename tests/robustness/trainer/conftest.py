from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.trainer.joint.workers import Bench, Mother
from tests.unit.trainer.tiny import make_base


@pytest.fixture(scope="session")
def mother(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mother]:
    """The process that all workers are forked from."""
    mother = Mother(make_base(tmp_path_factory.mktemp("joint") / "base"))
    yield mother
    mother.close()


@pytest.fixture
def bench(tmp_path: Path, mother: Mother) -> Bench:
    """A folder for one test's workers and jobs."""
    return Bench(tmp_path, mother.base, mother)


@pytest.fixture(scope="session")
def fragile_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, of the same tokenizer, that a rate which is too high makes much worse than a guess."""
    return make_base(tmp_path_factory.mktemp("fragile") / "base", fragile=True)


@pytest.fixture
def fragile_bench(tmp_path: Path, fragile_base: Path, mother: Mother) -> Bench:
    """The same with the fragile base."""
    return Bench(tmp_path, fragile_base, mother)
