"""Every store of blobs keeps the same promises: the one in a folder and the one in a bucket."""

import os
import time
from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.registry.blobs import CHUNK_BYTES, ObjectBlobs, key_of, open_blobs
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
