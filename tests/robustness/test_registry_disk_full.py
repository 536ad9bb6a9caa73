"""A full disk refuses writes with a sentence, leaves nothing half-written, and reads go on."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trivium.registry.v1 import registry_pb2 as pb

from tests.adapters import digest
from tests.small_disk import small_disk
from tests.stack import CHUNK_BYTES, Stack, download, eventually, refused, upload

DISK_MEGABYTES = 96


@pytest.fixture
def small(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A registry that lives on a small disk of its own."""
    with small_disk(tmp_path / "data" / "registry", f"{DISK_MEGABYTES}m"):
        running = Stack(tmp_path / "data", beside=stack)
        try:
            yield running
        finally:
            running.close()


def fill(folder: Path) -> Path:
    """Take what is left of the disk."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return filler


def staged(stack: Stack) -> list[Path]:
    return [path for path in (stack.data / "registry" / "blobs" / "staging").rglob("*") if path.is_file()]


def test_what_cannot_fit_is_refused_before_its_first_byte(small: Stack):
    user = small.newcomer()
    kept = os.urandom(1000)
    user.upload("a.json", kept)
    with refused("DISK_FULL"):
        user.upload("big.safetensors", b"", size=DISK_MEGABYTES << 20)
    assert not staged(small)
    assert download(user.api, digest(kept)) == kept


def test_a_disk_that_fills_up_during_an_upload(small: Stack):
    user = small.newcomer()
    kept, content = os.urandom(1000), os.urandom(20 * CHUNK_BYTES)
    user.upload("a.json", kept)
    full = threading.Event()

    def messages():
        parts = list(upload("weights.safetensors", content))
        yield from parts[:3]
        assert full.wait(120)
        yield from parts[3:]

    call = user.api.stub.UploadBlob.future(messages(), metadata=user.api.metadata, timeout=120)
    eventually(lambda: staged(small), "the upload has begun")
    filler = fill(small.data / "registry")
    full.set()
    with refused("DISK_FULL"):
        call.result()
    assert not staged(small)
    # Rows need space too: refused in the same words, and what is there can be read.
    with refused("DISK_FULL"):
        for number in range(2000):
            user.api.CreateModel(pb.CreateModelRequest(model=f"m{number}", description="x" * 2000))
    assert download(user.api, digest(kept)) == kept
    filler.unlink()
    assert user.upload("weights.safetensors", content).complete
    assert download(user.api, digest(content)) == content
    user.api.CreateModel(pb.CreateModelRequest(model="after"))
