import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.chassis.streams import Piece
from services.trainer.data.checker import Budget, Checker
from services.trainer.data.datasets import Datasets, Incoming
from services.trainer.data.rows import Format
from tests.unit.trainer.checks import until_one
from tests.unit.trainer.tiny import rows_text

CONTENT = rows_text().encode()
INCOMING = Incoming("", "Rows.JSONL", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 0, None)
DAY = 24 * 3600.0


@asynccontextmanager
async def opened(
    folder: Path,
    checker: Checker,
    *,
    max_bytes: int = len(CONTENT),
    blocking: Callable[..., Awaitable[object]] = asyncio.to_thread,
) -> AsyncIterator[Datasets]:
    """The verbs over a database in `folder`."""
    async with open_database(f"sqlite:///{folder}/trainer.db", "services.trainer.migrations") as database:
        yield Datasets(
            database,
            stored=folder / "stored",
            uploads=folder / "uploads",
            max_bytes=max_bytes,
            checker=checker,
            blocking=blocking,
            now=lambda: datetime.now(UTC),
        )


@pytest.fixture
async def datasets(tmp_path: Path, base: Path) -> AsyncIterator[Datasets]:
    """The verbs over a database of their own."""
    async with opened(tmp_path, Checker(base)) as datasets:
        yield datasets


async def whole() -> AsyncIterator[Piece]:
    yield Piece(0, CONTENT)


async def nothing() -> AsyncIterator[Piece]:
    raise AssertionError("a chunk was asked for")
    yield Piece(0, b"")


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    """What lies under `folder`, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aged(path: Path) -> Path:
    """Make `path` look as if nobody touched it for two days."""
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    return path


async def test_the_same_bytes_are_received_from_one_caller_at_a_time(datasets: Datasets) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    first = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    async with asyncio.timeout(30):
        assert (await refused(datasets.upload("acme", INCOMING, whole()))).reason is Reason.UPLOAD_IN_PROGRESS
    # Another tenant's upload is another file, and says nothing about this one.
    assert (await datasets.upload("other", INCOMING, whole())).rows == 10
    let_go.set()
    assert (await first).rows == 10


async def test_another_tenants_dataset_is_as_absent_as_a_missing_one(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert stored.dataset == "rows"
    for name in (stored.dataset, stored.digest, "missing"):
        with pytest.raises(Failure) as refused:
            await datasets.get("other", name)
        assert refused.value.reason is Reason.DATASET_NOT_FOUND
        assert await datasets.committed("other", INCOMING.sha256) == (0, False)


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
        assert files(tmp_path / "stored") == {f"acme/{INCOMING.sha256}": CONTENT}
        assert not files(tmp_path / "uploads")


async def test_what_takes_too_much_to_check_is_not_kept(tmp_path: Path, base: Path) -> None:
    content = rows_text(2000).encode()
    long = replace(INCOMING, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def all_of_it() -> AsyncIterator[Piece]:
        yield Piece(0, content)

    budget = Budget(cpu_seconds=0.05, bytes_per_cpu_second=1 << 40)
    async with opened(tmp_path, Checker(base, budget), max_bytes=len(content)) as datasets:
        assert (await refused(datasets.upload("acme", long, all_of_it()))).reason is Reason.DATASET_UNCHECKED
        assert await datasets.committed("acme", long.sha256) == (0, False)
    assert not files(tmp_path / "uploads")
    assert not files(tmp_path / "stored")


async def test_listed_bytes_stay_whatever_a_later_upload_of_them_announces(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    assert await datasets.upload("acme", replace(INCOMING, format=Format.CHAT), nothing()) == stored
    assert files(tmp_path / "stored") == {f"acme/{INCOMING.sha256}": CONTENT}


async def test_stored_bytes_that_lost_their_row_or_their_end_become_a_dataset_again(
    datasets: Datasets, tmp_path: Path
) -> None:
    path = datasets.path("acme", INCOMING.sha256)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    stored = await datasets.upload("acme", INCOMING, nothing())
    assert await datasets.get("acme", "rows") == stored
    path.write_bytes(CONTENT[:10])
    assert await datasets.upload("acme", INCOMING, whole()) == stored
    assert files(tmp_path / "stored") == {f"acme/{INCOMING.sha256}": CONTENT}


async def test_a_dataset_is_not_deleted_while_its_bytes_are_received(datasets: Datasets, tmp_path: Path) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    # As after a disk that lost the file: the row is there and the bytes are sent again.
    datasets.path("acme", INCOMING.sha256).unlink()
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
        if function.__name__ == "publish":
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
        assert files(tmp_path / "stored") == {f"acme/{INCOMING.sha256}": CONTENT}


async def test_a_dataset_that_is_deleted_while_it_is_validated_disturbs_nothing(datasets: Datasets) -> None:
    stored = await datasets.upload("acme", INCOMING, whole())
    validating = asyncio.create_task(datasets.problems("acme", stored.dataset, 8))
    await until_one()
    await datasets.delete("acme", stored.dataset)
    found, problems = await validating
    assert found == stored
    assert len(problems) == 10


async def test_a_sweep_takes_what_nobody_lists_and_nobody_touched(datasets: Datasets, tmp_path: Path) -> None:
    await datasets.upload("acme", INCOMING, whole())
    listed = aged(datasets.path("acme", INCOMING.sha256))
    uploads = tmp_path / "uploads" / "acme"
    old = [uploads / f"{'1' * 64}.partial", uploads / ("2" * 64), datasets.path("acme", "3" * 64)]
    # The same bytes are another tenant's affair: here they have no row.
    old.append(datasets.path("other", INCOMING.sha256))
    new = [uploads / f"{'4' * 64}.partial", uploads / ("5" * 64), datasets.path("acme", "6" * 64)]
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
