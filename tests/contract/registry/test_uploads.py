"""Uploads resume, are checked, and are read back; downloads start anywhere."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import registry_pb2 as pb

from tests.adapters import digest, noise
from tests.stack import CHUNK_BYTES, Stack, User, download, eventually, refused, upload


def status(user: User, content: bytes):
    return user.api.GetUpload(pb.GetUploadRequest(sha256=digest(content))).status


def test_an_upload_is_complete_and_reads_back_from_any_offset(user: User):
    content = noise(3 * CHUNK_BYTES + 17)
    assert status(user, content).committed_bytes == 0
    done = user.upload("weights.safetensors", content)
    assert done.complete
    assert done.committed_bytes == len(content)
    assert status(user, content) == done
    for offset in (0, 1, CHUNK_BYTES, len(content) - 1, len(content)):
        assert download(user.api, digest(content), offset) == content[offset:]
    with refused("OFFSET_BEYOND_END"):
        download(user.api, digest(content), len(content) + 1)


def test_an_empty_file_can_be_stored(user: User):
    assert user.upload("empty.json", b"").complete
    assert download(user.api, digest(b"")) == b""


def test_an_interrupted_upload_resumes_at_the_committed_offset(user: User):
    content = noise(5 * CHUNK_BYTES)
    with refused("SIZE_MISMATCH"):
        user.upload("weights.safetensors", content, until=2 * CHUNK_BYTES)
    committed = status(user, content).committed_bytes
    assert committed == 2 * CHUNK_BYTES
    with refused("CHUNK_OFFSET_WRONG") as failures:
        user.upload("weights.safetensors", content, resume=committed + 1)
    assert failures[0].variables["expected"] == str(committed)
    assert user.upload("weights.safetensors", content, resume=committed).complete
    assert download(user.api, digest(content)) == content


def test_a_client_that_vanishes_leaves_what_it_sent(user: User):
    content = noise(4 * CHUNK_BYTES)
    gone = threading.Event()

    def half():
        messages = upload("weights.safetensors", content)
        for _ in range(3):
            yield next(messages)
        gone.wait(120)

    call = user.api.stub.UploadBlob.future(half(), metadata=user.api.metadata, timeout=120)
    eventually(lambda: status(user, content).committed_bytes, "the first chunks are on disk")
    call.cancel()
    gone.set()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert status(user, content).committed_bytes

    def resumed():
        try:
            return user.upload("weights.safetensors", content, resume=status(user, content).committed_bytes).complete
        except grpc.RpcError:
            return False

    assert eventually(resumed, "the upload resumes once the server noticed")
    assert download(user.api, digest(content)) == content


def test_wrong_bytes_are_refused_and_nothing_is_kept(user: User):
    content, announced = noise(1000), digest(b"something else")
    with refused("DIGEST_MISMATCH"):
        user.upload("weights.safetensors", content, sha256=announced)
    kept = user.api.GetUpload(pb.GetUploadRequest(sha256=announced)).status
    assert (kept.committed_bytes, kept.complete) == (0, False)
    with refused("BLOB_NOT_FOUND"):
        download(user.api, announced)


def test_more_bytes_than_announced_are_refused(user: User):
    with refused("SIZE_MISMATCH"):
        user.upload("a.json", b"0123456789", size=5)


def test_the_same_content_twice_is_received_once(user: User):
    content = noise(2 * CHUNK_BYTES)
    user.upload("weights.safetensors", content)
    # The second time only the header is needed.
    assert user.upload("weights.safetensors", content, until=0).complete


def test_two_calls_do_not_grow_the_same_file(user: User):
    content = noise(4 * CHUNK_BYTES)
    finish = threading.Event()

    def slow():
        messages = list(upload("weights.safetensors", content))
        yield from messages[:2]
        finish.wait(120)
        yield from messages[2:]

    call = user.api.stub.UploadBlob.future(slow(), metadata=user.api.metadata, timeout=120)
    eventually(lambda: status(user, content).committed_bytes, "the first call has begun")
    with refused("UPLOAD_IN_PROGRESS"):
        user.upload("weights.safetensors", content)
    finish.set()
    assert call.result().status.complete


@pytest.mark.parametrize("filename", ["model.bin", "model.pt", "adapter.pkl", "weights.zip", "chat.jinja"])
def test_only_safetensors_and_json_are_taken(user: User, filename: str):
    with refused("WEIGHTS_REFUSED"):
        user.upload(filename, b"anything")


def test_a_stream_without_a_header_is_refused(user: User):
    with refused("REQUEST_STREAM_EMPTY"):
        user.api.UploadBlob(iter(()))
    messages = list(upload("a.json", b"{}"))
    with refused("FIELD_INVALID"):
        user.api.UploadBlob(iter(messages[1:]))
    with refused("FIELD_INVALID"):
        user.api.UploadBlob(iter([messages[0], messages[0]]))


def test_a_file_over_the_limit_is_refused_before_a_byte(user: User):
    with refused("BLOB_TOO_LARGE"):
        user.upload("weights.safetensors", b"", size=2**39)


@pytest.fixture(scope="module")
def narrow(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry that stages four chunks a tenant."""
    limit = {"TRIVIUM_REGISTRY_MAX_STAGED_BYTES_PER_TENANT": str(4 * CHUNK_BYTES)}
    running = Stack(tmp_path_factory.mktemp("narrow"), limit, beside=stack)
    yield running
    running.close()


@contextmanager
def going_on(user: User, content: bytes, chunks: int, **header: Any) -> Iterator[None]:
    """An upload that has sent so many chunks and waits while the block runs."""
    finish, begun = threading.Event(), threading.Event()

    def slow() -> Iterator[pb.UploadBlobRequest]:
        messages = upload("slow.safetensors", content, **header)
        yield from itertools.islice(messages, 1 + chunks)
        begun.set()
        finish.wait(120)
        yield from messages

    call = user.api.stub.UploadBlob.future(slow(), metadata=user.api.metadata, timeout=120)
    assert begun.wait(120)
    try:
        yield
    finally:
        finish.set()
        call.exception()


def test_unfinished_uploads_of_a_tenant_take_no_more_than_its_part_of_the_disk(narrow: Stack):
    user, other = narrow.newcomer(), narrow.newcomer()
    left, wanted, small = (noise(count * CHUNK_BYTES) for count in (3, 3, 2))
    with refused("SIZE_MISMATCH"):
        user.upload("left.safetensors", left, until=2 * CHUNK_BYTES)
    with refused("STAGED_BYTES_EXHAUSTED") as failures:
        user.upload("wanted.safetensors", wanted)
    told = {name: failures[0].variables[name] for name in ("staged_bytes", "name", "size_bytes", "limit_bytes")}
    assert told == {
        "staged_bytes": str(2 * CHUNK_BYTES),
        "name": "wanted.safetensors",
        "size_bytes": str(3 * CHUNK_BYTES),
        "limit_bytes": str(4 * CHUNK_BYTES),
    }
    assert status(user, wanted).committed_bytes == 0
    # What fits is taken, and what is finished takes no room; others have their own.
    assert user.upload("small.safetensors", small).complete
    assert other.upload("wanted.safetensors", wanted).complete
    assert user.upload("left.safetensors", left, resume=2 * CHUNK_BYTES).complete
    assert user.upload("wanted.safetensors", wanted).complete


def test_an_upload_that_goes_on_takes_all_that_it_announced_or_has_here(narrow: Stack):
    user = narrow.newcomer()
    slow, small = noise(3 * CHUNK_BYTES), noise(2 * CHUNK_BYTES)

    def committed() -> bool:
        return bool(status(user, slow).committed_bytes)

    with going_on(user, slow, 1):
        eventually(committed, "the slow upload has begun")
        with refused("STAGED_BYTES_EXHAUSTED"):
            user.upload("small.safetensors", small)
    assert user.upload("small.safetensors", small).complete
    left, more = noise(4 * CHUNK_BYTES), noise(2 * CHUNK_BYTES)
    with refused("SIZE_MISMATCH"):
        user.upload("left.safetensors", left, until=3 * CHUNK_BYTES)
    with going_on(user, left, 0, size=1, resume=3 * CHUNK_BYTES), refused("STAGED_BYTES_EXHAUSTED"):
        user.upload("more.safetensors", more)


def test_equal_content_of_two_tenants_is_stored_once(stack: Stack, user: User):
    content = noise(1000)
    user.upload("a.safetensors", content)
    stack.newcomer().upload("a.safetensors", content)
    assert len(list((stack.place.blobs / "sha256").rglob(digest(content)))) == 1
