"""A registry whose blobs lie in a bucket of a real S3 server: the same promises, and what an outage does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters import digest, noise
from tests.s3 import S3
from tests.stack import Stack, User, download, refused


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3]:
    """An S3 server that this test alone may end."""
    (tmp_path / "s3").mkdir()
    running = S3(tmp_path / "s3")
    running.start()
    yield running
    running.stop()


@pytest.fixture
def over_bucket(server: S3, tmp_path: Path) -> Iterator[Stack]:
    """Access and a registry over a bucket."""
    environment = {**server.environment, "TRIVIUM_REGISTRY_BLOBS_URL": server.bucket()}
    opened = Stack(tmp_path / "stack", environment)
    yield opened
    opened.close()


@pytest.fixture
def owner(over_bucket: Stack) -> User:
    """Somebody with a tenant."""
    return over_bucket.newcomer()


def test_versions_are_made_of_files_in_the_bucket_and_outlive_the_registrys_death(over_bucket: Stack, owner: User):
    version = owner.publish("m")
    blobs = {file.filename: download(owner.api, file.sha256) for file in version.files}
    over_bucket.restart(over_bucket.registry)
    owner = User(over_bucket.registry_api(over_bucket.tenant_key(owner.tenant)), owner.tenant)
    for file in version.files:
        content = download(owner.api, file.sha256)
        assert (digest(content), content) == (file.sha256, blobs[file.filename])
        assert not list(over_bucket.data.rglob(file.sha256))


def test_a_bucket_that_is_away_is_named_and_an_upload_that_failed_so_succeeds_afterwards(server: S3, owner: User):
    kept, content = noise(1000), noise(2_000_000)
    owner.upload("kept.safetensors", kept)
    server.stop()
    with refused("PEER_UNAVAILABLE") as failures:
        owner.upload("weights.safetensors", content)
    assert failures[0].variables["service"] == "blob storage"
    with refused("PEER_UNAVAILABLE"):
        download(owner.api, digest(kept))
    server.start()
    assert owner.upload("weights.safetensors", content).complete
    assert download(owner.api, digest(content)) == content
    assert download(owner.api, digest(kept)) == kept
