import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.chassis.streams import Piece
from services.trainer.datasets import Datasets, Incoming
from services.trainer.examples import ChatEncoder, Encoder
from tests.unit.trainer.tiny import rows_text

CONTENT = rows_text().encode()
INCOMING = Incoming("", "Rows.JSONL", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 0, None)


@pytest.fixture
async def datasets(tmp_path: Path, base: Path) -> AsyncIterator[Datasets]:
    """The verbs over a database of their own."""

    async def encoder() -> Encoder:
        return ChatEncoder.load(base)

    async with open_database(f"sqlite:///{tmp_path}/trainer.db", "services.trainer.migrations") as database:
        yield Datasets(
            database,
            stored=tmp_path / "stored",
            uploads=tmp_path / "uploads",
            max_bytes=len(CONTENT),
            encoder=encoder,
            blocking=asyncio.to_thread,
            now=lambda: datetime.now(UTC),
        )


async def whole() -> AsyncIterator[Piece]:
    yield Piece(0, CONTENT)


async def test_the_same_bytes_are_received_from_one_caller_at_a_time(datasets: Datasets) -> None:
    begun, let_go = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[Piece]:
        begun.set()
        await let_go.wait()
        yield Piece(0, CONTENT)

    first = asyncio.create_task(datasets.upload("acme", INCOMING, halting()))
    await begun.wait()
    with pytest.raises(Failure) as refused:
        await datasets.upload("acme", INCOMING, whole())
    assert refused.value.reason is Reason.UPLOAD_IN_PROGRESS
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
    async def never() -> AsyncIterator[Piece]:
        raise AssertionError("a chunk was asked for")
        yield Piece(0, b"")

    large = Incoming("", "large.jsonl", len(CONTENT) + 1, INCOMING.sha256, 0, None)
    with pytest.raises(Failure) as refused:
        await datasets.upload("acme", large, never())
    assert refused.value.reason is Reason.DATASET_TOO_LARGE
