"""Every store of blobs keeps the same promises: the one in a folder and the one in a bucket."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from obstore.store import from_url

from services.chassis import blobs as stores
from services.chassis.blobs import CHUNK_BYTES, ObjectBlobs, key_of, open_blobs, part_bytes
from services.chassis.errors import Failure, Reason
from tests.adapters import digest


@pytest.fixture(params=["folder", "bucket"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectBlobs:
    url = request.getfixturevalue("bucket") if request.param == "bucket" else ""
    return open_blobs(url, tmp_path / "blobs")


def staged(folder: Path, content: bytes) -> Path:
    path = folder / "blobs" / "staging" / "one"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def read(blobs: ObjectBlobs, sha256: str, offset: int = 0) -> bytes:
    pieces = [piece async for piece in blobs.read(sha256, offset)]
    assert all(0 < len(piece) <= CHUNK_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5, 25 * CHUNK_BYTES])
async def test_what_was_adopted_is_read_from_any_offset(blobs: ObjectBlobs, tmp_path: Path, size: int):
    content = os.urandom(size)
    path = staged(tmp_path, content)
    await blobs.adopt(path, digest(content))
    assert not path.exists()
    for offset in {0, size // 2, max(0, size - 1), size}:
        assert await read(blobs, digest(content), offset) == content[offset:]
    async with blobs.local(digest(content)) as local:
        assert local.read_bytes() == content


async def test_adopting_the_same_content_again_changes_nothing(blobs: ObjectBlobs, tmp_path: Path):
    for _ in range(2):
        await blobs.adopt(staged(tmp_path, b"content"), digest(b"content"))
    assert [blob.sha256 async for blob in blobs.stored()] == [digest(b"content")]


async def test_a_missing_blob_is_not_found(blobs: ObjectBlobs):
    with pytest.raises(Failure) as caught:
        await read(blobs, "0" * 64)
    assert caught.value.reason is Reason.BLOB_NOT_FOUND
    with pytest.raises(Failure):
        async with blobs.local("0" * 64):
            pass


async def test_deleting_is_for_good_and_may_be_repeated(blobs: ObjectBlobs, tmp_path: Path):
    await blobs.adopt(staged(tmp_path, b"content"), digest(b"content"))
    assert blobs.holds_now(digest(b"content"))
    for _ in range(2):
        blobs.delete_now(digest(b"content"))
        assert not blobs.holds_now(digest(b"content"))
    assert not [blob async for blob in blobs.stored()]


async def test_a_blob_that_is_put_again_is_new_again(blobs: ObjectBlobs, tmp_path: Path):
    before = int(time.time())
    await blobs.adopt(staged(tmp_path, b"content"), digest(b"content"))
    (first,) = [blob.modified_at async for blob in blobs.stored()]
    assert before <= first <= time.time() + 1


async def test_a_folder_holds_blobs_under_their_digest(tmp_path: Path):
    await open_blobs("", tmp_path / "blobs").adopt(staged(tmp_path, b"content"), digest(b"content"))
    sha256 = digest(b"content")
    assert key_of(sha256) == f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"
    assert (tmp_path / "blobs" / key_of(sha256)).read_bytes() == b"content"


async def test_a_caller_that_reads_slowly_gets_all_of_a_blob_though_requests_to_a_bucket_are_short(
    bucket: str, tmp_path: Path
):
    # As in production, scaled down: there a request may take half a minute, and a large model takes longer.
    short = timedelta(seconds=4)
    store = from_url(
        bucket,
        client_options={"timeout": short, "allow_http": True},
        retry_config={"max_retries": 5, "retry_timeout": short},
    )
    content = os.urandom(40 * 1024 * 1024)
    scratch = tmp_path / "blobs"
    blobs = ObjectBlobs(store, scratch=scratch)
    await open_blobs(bucket, scratch).adopt(staged(tmp_path, content), digest(content))
    received, began = list[bytes](), time.monotonic()
    async for piece in blobs.read(digest(content), 0):
        if not received:
            await asyncio.sleep(1.2 * short.total_seconds())
        received.append(piece)
    assert time.monotonic() - began > short.total_seconds()
    assert b"".join(received) == content


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket at a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        known = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
        for name, value in {**known, "AWS_ENDPOINT": address, "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        yield "s3://bucket/trivium"


def test_a_bucket_that_says_nothing_holds_a_transaction_up_only_so_long(
    mute: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert timedelta(seconds=10) > stores._AT_ONCE_TIMEOUT
    monkeypatch.setattr(stores, "_AT_ONCE_TIMEOUT", timedelta(seconds=0.3))
    blobs = open_blobs(mute, tmp_path / "blobs")
    for ask in (blobs.holds_now, blobs.delete_now):
        began = time.monotonic()
        with pytest.raises(Failure) as caught:
            ask("0" * 64)
        assert caught.value.reason is Reason.PEER_UNAVAILABLE
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("size", [0, 1, 5 * 1024**2, 50 * 1000**3, 64 * 1024**3, 5 * 1024**4])
def test_a_file_is_sent_in_no_more_parts_than_a_bucket_takes(size: int):
    assert part_bytes(size) >= 5 * 1024**2
    assert -(-size // part_bytes(size)) <= 10_000
