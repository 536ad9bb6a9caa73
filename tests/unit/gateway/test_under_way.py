"""What was heard of an answer is found by the process after the one that was killed: once, and to the last token."""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.generation import Receipt, SourceSpan, Usage
from gateway.peers.spool import FolderSpool
from gateway.peers.under_way import PLACES, MappedUnderWay
from gateway.receipts import Recorder, Waiting
from gateway.under_way import keep
from services.chassis.logs import logger
from services.chassis.runtime import new_id
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.gateway.test_waiting_receipts import Ledger

ONE = Waiting("ada", "key1", "/Chat", Receipt("r1", version_digest="sha256:a", usage=Usage(7, 1)), "zoo")
LOG = logger("test")


def places(folder: Path, boot: str = "this boot") -> MappedUnderWay:
    drawn = iter(range(1, 10_000))
    return MappedUnderWay(folder / "under-way", LOG, lambda: boot, lambda _: next(drawn))


def left(folder: Path, **how: Any) -> list[Waiting]:
    with places(folder, **how).opened() as found:
        return [place.waiting for place in found]


def dying(folder: Path) -> Path:
    """The folder of a process that is killed over three answers: of one nine tokens were heard, one has ended, one left."""
    ours = places(folder)
    with ours.opened():
        first, second, third = (ours.enter(replace(ONE, tenant=name)) for name in ("ada", "bob", "cyd"))
        assert first is not None
        assert second is not None
        assert third is not None
        first.heard(9)
        second.holds(Receipt("r1", sources=(SourceSpan("c", "d", "v", 0, 5),), usage=Usage(7, 4)))
        third.leave()
        # As the kernel has it in this moment.
        later = folder / "later"
        later.mkdir()
        shutil.copy(folder / "under-way", later)
    return later


def test_it_is_found_as_it_was_at_the_last_token_or_as_its_receipt_says(tmp_path: Path) -> None:
    folder = dying(tmp_path)
    found = {waiting.tenant: waiting for waiting in left(folder)}
    assert set(found) == {"ada", "bob"}
    assert found["ada"].receipt == replace(ONE.receipt, request_id="r1~cancelled-1", usage=Usage(7, 9))
    assert (found["ada"].principal, found["ada"].method, found["ada"].project) == ("key1", "/Chat", "zoo")
    assert (found["bob"].receipt.request_id, found["bob"].receipt.usage) == ("r1", Usage(7, 4))
    # Nobody has said that they are recorded.
    assert len(left(folder)) == 2


async def test_the_next_process_records_each_of_them_and_then_no_other_does(tmp_path: Path) -> None:
    folder = dying(tmp_path)
    ledger = Ledger(reachable=True)
    recorder = Recorder(ledger, FolderSpool(tmp_path / "receipts", new_id), LOG)
    async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as tasks:
        working = [tasks.create_task(work) for work in (recorder.run(), keep(places(folder), recorder))]
        # It comes after those that were found: they are told at once, in the order of their coming.
        await asyncio.sleep(0)
        await recorder.record("ada", "key1", "/Chat", replace(ONE.receipt, request_id="r2"))
        for task in working:
            task.cancel()
    assert [kept.receipt.request_id for kept in ledger.kept if kept.tenant == "ada"] == ["r1~cancelled-1", "r2"]
    assert left(folder) == []


def test_what_was_written_before_the_machine_began_anew_counts_for_nothing(tmp_path: Path) -> None:
    folder = dying(tmp_path)
    assert left(folder, boot="the next boot") == []
    assert left(folder) == []


def test_a_place_that_is_spoiled_is_free_again(tmp_path: Path) -> None:
    folder = dying(tmp_path)
    content = bytearray((folder / "under-way").read_bytes())
    for mark in (b"r1~cancelled-1", b"bob"):
        content[content.index(mark)] ^= 1
    (folder / "under-way").write_bytes(content)
    ours = places(folder)
    with ours.opened() as found:
        assert list(found) == []
        assert all(ours.enter(ONE) for _ in range(PLACES))


def test_there_is_no_place_for_one_too_many_or_too_long_or_while_another_process_has_them(tmp_path: Path) -> None:
    ours, others = places(tmp_path), places(tmp_path)
    assert ours.enter(ONE) is None
    with ours.opened(), others.opened():
        assert others.enter(ONE) is None
        assert ours.enter(replace(ONE, project="x" * 5000)) is None
        taken = [ours.enter(ONE) for _ in range(PLACES)]
        assert all(taken)
        assert ours.enter(ONE) is None
        first = taken[0]
        assert first is not None
        first.leave()
        assert ours.enter(ONE) is not None
    # The server has ended; an answer that outlived it says what it has to say to nobody.
    first.heard(3)
    first.leave()


def test_on_a_full_disk_answers_are_given_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    ours = places(tmp_path)
    with ours.opened() as found:
        assert (list(found), ours.enter(ONE)) == ([], None)
