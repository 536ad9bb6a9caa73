import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.blobs import key_of
from services.chassis.errors import Reason
from services.chassis.streams import Piece
from services.trainer.data import dataset_files
from services.trainer.data.checker import Budget, Checker
from services.trainer.data.datasets import Datasets
from services.trainer.data.rows import Format
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.dataset_uploads import (
    CONTENT,
    DAY,
    INCOMING,
    Inline,
    aged,
    files,
    nothing,
    opened,
    refused,
    shortened,
    whole,
)
from tests.unit.trainer.tiny import rows_text


async def test_the_same_bytes_are_received_from_one_caller_at_a_time(datasets: Datasets) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    first = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    async with asyncio.timeout(HANG_SECONDS):
        assert (await refused(datasets.upload("acme", INCOMING, whole()))).reason is Reason.UPLOAD_IN_PROGRESS
    # Another tenant's upload is another file, and says nothing about this one.
    assert (await datasets.upload("other", INCOMING, whole())).rows == 10
    let_go.set()
    assert (await first).rows == 10


async def test_a_dataset_over_the_limit_is_refused_before_its_bytes_are_read(datasets: Datasets) -> None:
    large = replace(INCOMING, size_bytes=len(CONTENT) + 1)
    assert (await refused(datasets.upload("acme", large, nothing()))).reason is Reason.DATASET_TOO_LARGE


async def test_what_the_disk_cannot_hold_is_refused_before_its_bytes_are_read(tmp_path: Path, base: Path) -> None:
    large = replace(INCOMING, size_bytes=1 << 60)
    async with opened(tmp_path, Checker(base), max_bytes=1 << 60) as datasets:
        failure = await refused(datasets.upload("acme", large, nothing()))
    assert failure.sentence == "No space is left on the disk that holds the datasets."
    assert not files(tmp_path / "uploads")


async def test_what_could_not_be_checked_yet_is_kept_and_not_sent_again(tmp_path: Path, base: Path) -> None:
    async with opened(tmp_path, Checker(base, Budget(start_seconds=0.01))) as datasets:
        assert (await refused(datasets.upload("acme", INCOMING, whole()))).reason is Reason.NOT_READY
        assert await datasets.committed("acme", INCOMING.sha256) == (len(CONTENT), True)
    async with opened(tmp_path, Checker(base)) as datasets:
        assert (await datasets.upload("acme", INCOMING, nothing())).rows == 10
        assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}
        assert not files(tmp_path / "uploads")


async def test_what_takes_too_much_to_check_is_not_kept(tmp_path: Path, base: Path) -> None:
    content = rows_text(2000).encode()
    long = replace(INCOMING, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def all_of_it() -> AsyncIterator[Piece]:
        yield Piece(0, content)

    budget = Budget(cpu_seconds=0.05, bytes_per_cpu_second=1 << 40, wall_factor=1200)
    async with opened(tmp_path, Checker(base, budget), max_bytes=len(content)) as datasets:
        assert (await refused(datasets.upload("acme", long, all_of_it()))).reason is Reason.DATASET_UNCHECKED
        assert await datasets.committed("acme", long.sha256) == (0, False)
    assert not files(tmp_path / "uploads")
    assert not files(tmp_path / "stored")


async def test_listed_bytes_stay_whatever_a_later_upload_of_them_announces(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert await datasets.upload("acme", replace(INCOMING, format=Format.CHAT), nothing()) == stored
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_bytes_that_a_kill_left_without_a_row_are_no_dataset_and_nobody_gets_them_by_their_digest(
    datasets: Datasets, tmp_path: Path
) -> None:
    place = tmp_path / "stored" / key_of(INCOMING.sha256)
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    assert await datasets.committed("acme", INCOMING.sha256) == (0, False)
    stored = await datasets.upload("acme", INCOMING, whole())
    assert await datasets.get("acme", "rows") == stored
    assert await datasets.committed("acme", INCOMING.sha256) == (len(CONTENT), True)
    assert await datasets.committed("other", INCOMING.sha256) == (0, False)
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_a_listed_dataset_whose_bytes_the_disk_lost_is_whole_after_another_upload(
    datasets: Datasets, tmp_path: Path
) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    (await datasets.file(stored.digest)).unlink()
    assert (await refused(datasets.file(stored.digest))).reason is Reason.DATASET_NOT_FOUND
    assert await datasets.upload("acme", INCOMING, whole()) == stored
    assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_what_an_earlier_release_kept_is_found_and_moves(tmp_path: Path, base: Path) -> None:
    async with opened(tmp_path, Inline(base)) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole())
    old = tmp_path / "old" / "acme" / INCOMING.sha256
    old.parent.mkdir(parents=True)
    (tmp_path / "stored" / key_of(INCOMING.sha256)).rename(old)
    unlisted = old.with_name("1" * 64)
    unlisted.write_bytes(b"never checked")
    async with opened(tmp_path, Checker(base)) as datasets:
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        assert not old.exists()
        assert unlisted.exists()
        await datasets.sweep(time.time() + DAY)
        assert not unlisted.exists()
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT


async def test_a_dataset_is_not_deleted_while_its_bytes_are_received(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    # As after a disk that lost the file: the row is there and the bytes are sent again.
    (await datasets.file(stored.digest)).unlink()
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    uploading = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    deleting = asyncio.create_task(datasets.delete("acme", stored.dataset))
    done, _ = await asyncio.wait([deleting], timeout=0.5)
    assert not done
    let_go.set()
    assert await uploading == stored
    await deleting
    assert (await refused(datasets.get("acme", stored.dataset))).reason is Reason.DATASET_NOT_FOUND
    assert not files(tmp_path / "stored")


async def test_a_caller_that_leaves_while_its_dataset_is_stored_leaves_it_whole(tmp_path: Path, base: Path) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting(function: Callable[..., object], *arguments: object, **named: object) -> object:
        if function is dataset_files._linked:
            begun.set()
            await let_go.wait()
        return await asyncio.to_thread(function, *arguments, **named)

    async with opened(tmp_path, Checker(base), blocking=halting) as datasets:
        uploading = asyncio.create_task(datasets.upload("acme", INCOMING, whole()))
        await begun.wait()
        uploading.cancel()
        # Nobody else gets at the bytes before they are stored.
        assert (await refused(datasets.upload("acme", INCOMING, nothing()))).reason is Reason.UPLOAD_IN_PROGRESS
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert (await datasets.get("acme", "rows")).rows == 10
        assert files(tmp_path / "stored") == {key_of(INCOMING.sha256): CONTENT}


async def test_a_sweep_takes_what_nobody_lists_and_nobody_touched(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    listed = aged(await datasets.file(stored.digest))
    uploads, blobs, reports = tmp_path / "uploads" / "acme", tmp_path / "stored", tmp_path / "reports" / "acme"
    old = [uploads / f"{'1' * 64}.partial", uploads / ("2" * 64), blobs / key_of("3" * 64), reports / ("7" * 64)]
    new = [uploads / f"{'4' * 64}.partial", uploads / ("5" * 64), blobs / key_of("6" * 64), reports / ("8" * 64)]
    for path in (*old, *new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"part")
    for path in old:
        aged(path)
    assert await datasets.sweep(time.time() - DAY) == len(old)
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in (listed, *new))


async def test_a_sweep_leaves_alone_what_is_being_received(datasets: Datasets, tmp_path: Path) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        yield Piece(0, CONTENT[:100])
        begun.set()
        await let_go.wait()
        yield Piece(100, CONTENT[100:])

    uploading = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    aged(tmp_path / "uploads" / "acme" / f"{INCOMING.sha256}.partial")
    assert await datasets.sweep(time.time() - DAY) == 0
    let_go.set()
    assert (await uploading).rows == 10


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_datasets_in_a_bucket_are_read_from_a_copy_that_stays(
    tmp_path: Path, base: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    database_url = str(request.getfixturevalue("postgres_url")) if kind == "postgres" else ""
    (tmp_path / "bucket").mkdir()
    bucket = f"file://{tmp_path}/bucket"
    async with opened(tmp_path, Inline(base), url=bucket, database_url=database_url) as datasets:
        stored = await datasets.upload("acme", INCOMING, whole())
        path = await datasets.file(stored.digest)
        assert path.read_bytes() == CONTENT
        assert await datasets.file(stored.digest) == path
        assert files(tmp_path / "stored") == {f"copies/{INCOMING.sha256}": CONTENT}
        await datasets.sweep(time.time() + DAY)
        assert not path.exists()
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        incoming, chunks = shortened()
        assert (await datasets.upload("acme", incoming, chunks())).version == 2
        await datasets.delete("acme", "rows@2")
        # Neither a tenant's deletion nor a sweep takes what another lists.
        await datasets.upload("other", INCOMING, whole())
        await datasets.delete("acme", "rows")
        await datasets.sweep(time.time() + DAY)
        assert (await datasets.file(stored.digest)).read_bytes() == CONTENT
        await datasets.delete("other", "rows")
        assert not files(tmp_path / "stored")
        assert not files(tmp_path / "bucket")
