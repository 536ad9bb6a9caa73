"""The service of files over SQLite with a folder; for a share of the tests over PostgreSQL with a bucket too."""

from collections.abc import Iterator

import openai
import pytest

from tests.answering_door import AnsweringDoor, answering_door
from tests.contract.second_store import sample_second_store
from tests.filing import Filing, Keeper
from tests.harness.gateway import Gateway
from tests.stack import Stack
from tests.worlds import BUCKET, FOLDER

# The store itself: what is written of a file, how much of it, and what is left when that fails.
ALWAYS = ("test_files.py",)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Sample what runs on PostgreSQL."""
    sample_second_store(item, "filing", BUCKET, always=ALWAYS)


@pytest.fixture(scope="session")
def door() -> Iterator[AnsweringDoor]:
    """Where batches ask."""
    with answering_door() as opened:
        yield opened


@pytest.fixture(scope="session", params=[FOLDER, BUCKET])
def filing(
    request: pytest.FixtureRequest, stack: Stack, door: AnsweringDoor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Filing]:
    """A service that serves the whole session; each test takes tenants of its own."""
    settings = {
        "TRIVIUM_FILES_MAX_FILE_BYTES": str(8 * 1024**2),
        "TRIVIUM_FILES_MAX_FILES_PER_TENANT": "20",
        "TRIVIUM_FILES_GATEWAY_URL": door.address,
        "TRIVIUM_FILES_BATCH_LOOK_SECONDS": "0.1",
    }
    if request.param == BUCKET:
        postgres, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
        place = {"TRIVIUM_FILES_DATABASE_URL": postgres.database(), "TRIVIUM_FILES_BLOBS_URL": s3.bucket()}
        settings.update({**s3.environment, **place})
    running = Filing(tmp_path_factory.mktemp("files"), stack, settings)
    yield running
    running.close()


@pytest.fixture
def keeper(filing: Filing) -> Keeper:
    """Somebody in a new tenant."""
    return filing.newcomer()


@pytest.fixture(scope="session")
def gateway(filing: Filing, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway over it."""
    running = filing.gateway(tmp_path_factory.mktemp("gateway"))
    yield running
    running.stop()


@pytest.fixture
def client(gateway: Gateway, keeper: Keeper) -> Iterator[openai.OpenAI]:
    """OpenAI's own client, with the key of somebody in a new tenant."""
    with openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=keeper.credential, timeout=60, max_retries=0) as opened:
        yield opened
