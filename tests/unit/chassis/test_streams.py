"""Uploads and downloads: whole and right, or resumable, or not there."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.streams import Piece, Seal, committed_bytes, partial_path, receive, receive_sealed, send

CONTENT = os.urandom(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def pieces(content: bytes, offset: int = 0, size: int = 300_000) -> list[Piece]:
    return [Piece(at, content[at : at + size]) for at in range(offset, len(content), size)]


async def flowing(items: Iterable[Piece], failure: Exception | None = None) -> AsyncIterator[Piece]:
    for item in items:
        yield item
    if failure is not None:
        raise failure


async def test_an_upload_is_kept_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "blob"
    received = await receive(flowing(pieces(CONTENT)), target, len(CONTENT), f"sha256:{DIGEST}")
    assert target.read_bytes() == CONTENT
    assert (received.size_bytes, received.sha256) == (len(CONTENT), DIGEST)
    assert not partial_path(target).exists()


async def test_an_interrupted_upload_resumes_where_it_was_committed(tmp_path: Path) -> None:
    target = tmp_path / "blob"
    with pytest.raises(ConnectionError):
        await receive(flowing(pieces(CONTENT)[:2], ConnectionError()), target, len(CONTENT), DIGEST)
    assert not target.exists()
    offset = committed_bytes(target)
    assert offset == 600_000
    await receive(flowing(pieces(CONTENT, offset)), target, len(CONTENT), DIGEST, offset)
    assert target.read_bytes() == CONTENT


async def test_a_resume_with_a_wrong_digest_keeps_nothing(tmp_path: Path) -> None:
    target = tmp_path / "blob"
    with pytest.raises(ConnectionError):
        await receive(flowing(pieces(CONTENT)[:2], ConnectionError()), target, len(CONTENT), DIGEST)
    other = bytes(len(CONTENT))
    offset = committed_bytes(target)
    with pytest.raises(Failure) as failure:
        await receive(flowing(pieces(other, offset)), target, len(CONTENT), DIGEST, offset)
    assert failure.value.reason is Reason.DIGEST_MISMATCH
    assert committed_bytes(target) == 0
    assert os.listdir(tmp_path) == []


async def test_a_resume_from_elsewhere_is_told_the_right_offset(tmp_path: Path) -> None:
    target = tmp_path / "blob"
    with pytest.raises(ConnectionError):
        await receive(flowing(pieces(CONTENT)[:1], ConnectionError()), target, len(CONTENT), DIGEST)
    with pytest.raises(Failure) as failure:
        await receive(flowing([]), target, len(CONTENT), DIGEST, 5)
    assert failure.value.variables["expected"] == "300000"
    assert committed_bytes(target) == 300_000


async def test_beginning_again_forgets_the_first_attempt(tmp_path: Path) -> None:
    target = tmp_path / "blob"
    with pytest.raises(ConnectionError):
        await receive(flowing(pieces(bytes(500_000)), ConnectionError()), target, len(CONTENT), DIGEST)
    await receive(flowing(pieces(CONTENT)), target, len(CONTENT), DIGEST, 0)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        (pieces(CONTENT)[::-1], Reason.CHUNK_OFFSET_WRONG),
        (pieces(CONTENT)[:-1], Reason.SIZE_MISMATCH),
        ([*pieces(CONTENT), Piece(len(CONTENT), b"more")], Reason.SIZE_MISMATCH),
    ],
)
async def test_gaps_and_wrong_lengths_are_refused(tmp_path: Path, chunks: list[Piece], reason: Reason) -> None:
    with pytest.raises(Failure) as failure:
        await receive(flowing(chunks), tmp_path / "blob", len(CONTENT), DIGEST)
    assert failure.value.reason is reason
    assert not (tmp_path / "blob").exists()


async def test_an_upload_that_crawls_is_ended_and_resumable(tmp_path: Path) -> None:
    moments = iter(range(0, 10_000, 20))
    with pytest.raises(Failure) as failure:
        await receive(
            flowing(pieces(CONTENT, size=1000)), tmp_path / "blob", len(CONTENT), DIGEST, clock=lambda: next(moments)
        )
    assert failure.value.reason is Reason.UPLOAD_TOO_SLOW
    assert committed_bytes(tmp_path / "blob") > 0


async def test_a_cancelled_upload_is_resumable(tmp_path: Path) -> None:
    waiting = asyncio.Event()

    async def stalled() -> AsyncIterator[Piece]:
        yield pieces(CONTENT)[0]
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(receive(stalled(), tmp_path / "blob", len(CONTENT), DIGEST))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert committed_bytes(tmp_path / "blob") == 300_000


async def test_an_empty_file_travels_too(tmp_path: Path) -> None:
    await receive(flowing([]), tmp_path / "blob", 0, hashlib.sha256().hexdigest())
    assert (tmp_path / "blob").read_bytes() == b""
    assert [piece async for piece in send(tmp_path / "blob")] == []


async def test_a_download_begins_at_its_offset(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(CONTENT)
    got = [piece async for piece in send(tmp_path / "blob", 123, 300_000)]
    assert b"".join(piece.data for piece in got) == CONTENT[123:]
    assert [piece.offset_bytes for piece in got] == [123, 300_123, 600_123, 900_123]
    with pytest.raises(Failure) as failure:
        await anext(send(tmp_path / "blob", len(CONTENT) + 1))
    assert failure.value.reason is Reason.OFFSET_BEYOND_END


async def sealed(items: Iterable[Piece | Seal]) -> AsyncIterator[Piece | Seal]:
    for item in items:
        yield item


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def everything(_: int) -> None:
    """Admit any length."""


async def test_an_upload_of_unknown_length_is_kept_when_its_seal_fits(tmp_path: Path) -> None:
    target = tmp_path / "a" / "blob"
    lengths: list[int] = []
    received = await receive_sealed(sealed([*pieces(CONTENT), Seal(len(CONTENT), DIGEST)]), target, lengths.append)
    assert target.read_bytes() == CONTENT
    assert (received.size_bytes, received.sha256) == (len(CONTENT), DIGEST)
    assert lengths == [300_000, 600_000, 900_000, 1_000_000]


@pytest.mark.parametrize(
    ("seal", "reason"),
    [
        ([], Reason.UPLOAD_UNFINISHED),
        ([Seal(len(CONTENT), "0" * 64)], Reason.DIGEST_MISMATCH),
        ([Seal(1, DIGEST)], Reason.SIZE_MISMATCH),
        ([Piece(7, b"x")], Reason.CHUNK_OFFSET_WRONG),
    ],
)
async def test_of_an_upload_whose_seal_does_not_fit_nothing_stays(
    tmp_path: Path, seal: list[Piece | Seal], reason: Reason
) -> None:
    with pytest.raises(Failure) as refused:
        await receive_sealed(sealed([*pieces(CONTENT), *seal]), tmp_path / "blob", everything)
    assert refused.value.reason is reason
    assert left(tmp_path) == []


@pytest.mark.parametrize("turns", range(8))
async def test_whenever_an_upload_with_a_seal_is_cancelled_nothing_stays(tmp_path: Path, turns: int) -> None:
    async def endless() -> AsyncIterator[Piece]:
        for piece in pieces(CONTENT):
            yield piece
        await asyncio.Event().wait()

    uploading = asyncio.create_task(receive_sealed(endless(), tmp_path / "blob", everything))
    for _ in range(turns):
        await asyncio.sleep(0)
    uploading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await uploading
    assert left(tmp_path) == []
