"""The two worlds in which the registry keeps its promises: SQLite with a folder, PostgreSQL with a bucket."""

from collections.abc import Iterator

import pytest

from tests.postgres import Postgres
from tests.s3 import S3
from tests.stack import Place, Stack

FOLDER, BUCKET = "sqlite+folder", "postgres+s3"


def in_bucket(postgres: Postgres, s3: S3) -> Place:
    """A new database and a new bucket."""
    url = s3.bucket()
    settings = {
        **s3.environment,
        "TRIVIUM_REGISTRY_DATABASE_URL": postgres.database(),
        "TRIVIUM_REGISTRY_BLOBS_URL": url,
    }
    return Place(settings, s3.folder_of(url))


@pytest.fixture(scope="session", params=[FOLDER, BUCKET])
def stack(request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The session's stack, then one over the other world, beside the same access."""
    if request.param == FOLDER:
        yield stack
        return
    postgres, s3 = request.getfixturevalue("postgres"), request.getfixturevalue("s3")
    other = Stack(tmp_path_factory.mktemp("bucket"), beside=stack, place=lambda _: in_bucket(postgres, s3))
    yield other
    other.close()
