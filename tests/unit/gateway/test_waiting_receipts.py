"""A receipt that access cannot take yet waits on the disk, not in the process."""

import asyncio

import pytest

from gateway.generation import Receipt, Sampling, SourceSpan, Usage
from gateway.peers.spool import FolderSpool
from gateway.receipts import Recorder, Waiting
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from services.chassis.runtime import new_id

RECEIPT = Receipt("r1", version_digest="sha256:a", sampling=Sampling(seed=7), usage=Usage(3, 2))


class Ledger:
    """Access, reachable or not: keeps what it is given."""

    def __init__(self, *, reachable: bool, refuses: bool = False) -> None:
        self.reachable = reachable
        self.refuses = refuses
        self.kept: list[tuple[str, str, str, Receipt]] = []
        self.asked = asyncio.Event()

    async def record(self, method, receipt):
        await self.record_for("", "", method, receipt)

    async def record_for(self, tenant, principal, method, receipt):
        self.asked.set()
        if self.refuses:
            raise Failure(Reason.TENANT_NOT_FOUND, name=tenant)
        if not self.reachable:
            raise Failure(Reason.PEER_UNAVAILABLE, service="access")
        self.kept.append((tenant, principal, method, receipt))

    async def receipt(self, request_id):
        raise Failure(Reason.RECEIPT_NOT_FOUND, name=request_id)


class Silent(Ledger):
    """Access that takes what it is given and never answers."""

    async def record(self, method, receipt):
        self.asked.set()
        await asyncio.Event().wait()


@pytest.fixture
def spool(tmp_path):
    return FolderSpool(tmp_path / "receipts", new_id)


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


def recorder(ledger, spool):
    return Recorder(ledger, spool, logger("test"), at_once)


async def run_until(recorder, holds):
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(30):
        while not await holds():
            pass
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_waits_when_the_gateway_dies_is_recorded_by_the_next_one(spool):
    away = Ledger(reachable=False)
    dying = recorder(away, spool)
    receipts = [
        RECEIPT,
        Receipt("r2", sources=(SourceSpan("c", "d", "v", 0, 5, "k", 1),), complete_time_seconds=1.5, engine_slot=2),
    ]
    for receipt in receipts:
        await dying.record("ada", "key1", "/Ask", receipt)
    # Nothing of the first gateway is used from here on: what it had in memory is gone.
    back = Ledger(reachable=True)

    async def all_recorded():
        return not await spool.names()

    await run_until(recorder(back, spool), all_recorded)
    assert back.kept == [("ada", "key1", "/Ask", receipt) for receipt in receipts]


async def test_what_access_takes_at_once_never_waits(spool):
    ledger = Ledger(reachable=True)
    await recorder(ledger, spool).record("ada", "key1", "/Ask", RECEIPT)
    assert [kept[3] for kept in ledger.kept] == [RECEIPT]
    assert await spool.names() == []


async def test_a_receipt_stays_on_the_disk_until_access_has_it(spool):
    ledger = Ledger(reachable=False)
    ours = recorder(ledger, spool)
    await ours.record("ada", "key1", "/Ask", RECEIPT)
    ledger.asked.clear()

    async def asked_again():
        await ledger.asked.wait()
        return True

    await run_until(ours, asked_again)
    assert len(await spool.names()) == 1


async def test_a_receipt_that_access_refuses_and_one_that_cannot_be_read_hold_up_no_other(spool, tmp_path):
    await spool.keep(Waiting("ada", "key1", "/Ask", RECEIPT))
    (tmp_path / "receipts" / "00.usage").write_bytes(b"\xff\xff\xff")

    async def empty():
        return not await spool.names()

    await run_until(recorder(Ledger(reachable=True, refuses=True), spool), empty)


async def test_a_receipt_whose_caller_leaves_while_access_is_slow_waits_too(spool):
    slow = Silent(reachable=True)
    recording = asyncio.create_task(recorder(slow, spool).record("ada", "key1", "/Ask", RECEIPT))
    async with asyncio.timeout(30):
        await slow.asked.wait()
    recording.cancel()
    with pytest.raises(asyncio.CancelledError):
        await recording
    (name,) = await spool.names()
    assert await spool.read(name) == Waiting("ada", "key1", "/Ask", RECEIPT)


async def test_the_background_pauses_only_after_access_could_not_be_reached(spool):
    ledger = Ledger(reachable=True)
    await spool.keep(Waiting("ada", "key1", "/Ask", RECEIPT))

    async def recorded():
        await asyncio.sleep(0)
        return ledger.kept

    await run_until(Recorder(ledger, spool, logger("test"), pause=lambda _: asyncio.Event().wait()), recorded)
    assert [kept[3] for kept in ledger.kept] == [RECEIPT]
