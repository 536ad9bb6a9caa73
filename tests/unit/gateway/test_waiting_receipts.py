"""A receipt is durable when its answer ends: at access, many in one call, or on the disk while access is away."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from gateway.generation import CollectionVersion, Receipt, Sampling, SourceSpan, Usage
from gateway.peers.access import to_record
from gateway.peers.spool import FolderSpool
from gateway.receipts import Recorder, Waiting
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from services.chassis.runtime import new_id
from tests.harness.timeouts import HANG_SECONDS

RECEIPT = Receipt("r1", version_digest="sha256:a", sampling=Sampling(seed=7), usage=Usage(3, 2))


class Ledger:
    """Access, reachable or not: keeps what it is given."""

    def __init__(self, *, reachable: bool, refuses: bool = False) -> None:
        self.reachable = reachable
        self.why = Failure(Reason.PEER_UNAVAILABLE, service="access")
        self.refuses = refuses
        self.kept: list[Waiting] = []
        self.calls: list[int] = []
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def record(self, batch):
        self.asked.set()
        self.calls.append(len(batch))
        await self.open.wait()
        if not self.reachable:
            raise self.why
        if self.refuses:
            return ["TENANT_NOT_FOUND"] * len(batch)
        self.kept += batch
        return [""] * len(batch)

    async def receipt(self, request_id):
        raise Failure(Reason.RECEIPT_NOT_FOUND, name=request_id)


@pytest.fixture
def spool(tmp_path):
    return FolderSpool(tmp_path / "receipts", new_id)


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


@asynccontextmanager
async def running(ledger, spool, pause=at_once):
    """A recorder with its background."""
    recorder = Recorder(ledger, spool, logger("test"), pause)
    task = asyncio.create_task(recorder.run())
    async with asyncio.timeout(HANG_SECONDS):
        yield recorder
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(holds):
    async with asyncio.timeout(HANG_SECONDS):
        while not await holds():
            pass


def receipt(number: int) -> Receipt:
    return Receipt(f"r{number}", usage=Usage(number, 1))


async def test_what_waits_when_the_gateway_dies_is_recorded_by_the_next_one(spool):
    sources = (SourceSpan("c", "d", "v", 0, 5, "k", 1),)
    of = (CollectionVersion("c", "e"),)
    receipts = [RECEIPT, Receipt("r2", sources=sources, complete_time_seconds=1.5, engine_slot=2, collections=of)]
    async with running(Ledger(reachable=False), spool) as dying:
        for one in receipts:
            await dying.record("ada", "key1", "/Ask", one)
    # Nothing of the first gateway is used from here on: what it had in memory is gone.
    back = Ledger(reachable=True)

    async def all_recorded():
        return not await spool.names()

    async with running(back, spool):
        await until(all_recorded)
    assert back.kept == [Waiting("ada", "key1", "/Ask", one) for one in receipts]


async def test_what_access_takes_at_once_never_waits(spool):
    ledger = Ledger(reachable=True)
    async with running(ledger, spool) as ours:
        await ours.record("ada", "key1", "/Ask", RECEIPT)
        assert [kept.receipt for kept in ledger.kept] == [RECEIPT]
        assert await spool.names() == []


async def test_what_ends_while_a_call_is_on_its_way_goes_in_the_next_one_together(spool):
    ledger = Ledger(reachable=True)
    ledger.open.clear()
    async with running(ledger, spool) as ours:
        recording = [asyncio.ensure_future(ours.record("ada", "k", "/Ask", receipt(0)))]
        await ledger.asked.wait()
        recording += [asyncio.ensure_future(ours.record("ada", "k", "/Ask", receipt(number))) for number in (1, 2, 3)]
        await asyncio.sleep(0)
        assert not any(one.done() for one in recording)
        ledger.open.set()
        await asyncio.gather(*recording)
    assert ledger.calls == [1, 3]
    assert [kept.receipt.request_id for kept in ledger.kept] == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize(
    "why",
    [
        Failure(Reason.PEER_UNAVAILABLE, service="access"),
        Failure(Reason.INTERNAL, correlation_id=""),
        Failure(Reason.ROLE_MISSING, required="service"),
    ],
    ids=lambda why: why.reason.name,
)
async def test_a_receipt_stays_on_the_disk_until_access_has_it(spool, why):
    ledger = Ledger(reachable=False)
    ledger.why = why
    async with running(ledger, spool) as ours:
        await ours.record("ada", "key1", "/Ask", RECEIPT)
        for _ in range(2):
            ledger.asked.clear()
            await ledger.asked.wait()
        assert await spool.waiting() == 1


async def test_while_access_is_away_no_end_waits_for_it_and_once_it_is_back_all_do(spool):
    ledger, back = Ledger(reachable=False), asyncio.Event()
    async with running(ledger, spool, pause=lambda _: back.wait()) as ours:
        for number in range(5):
            await ours.record("ada", "k", "/Ask", receipt(number))
        # The first, and the background's attempt: nobody else asked.
        assert len(ledger.calls) <= 2
        assert await spool.waiting() == 5
        ledger.reachable = True
        back.set()

        async def empty():
            return not await spool.names()

        await until(empty)
        await asyncio.sleep(0)
        await ours.record("ada", "k", "/Ask", receipt(5))
        assert sorted(kept.receipt.request_id for kept in ledger.kept) == [f"r{number}" for number in range(6)]
        assert await spool.names() == []


async def test_a_batch_that_access_refuses_and_one_that_cannot_be_read_hold_up_no_other(spool, tmp_path):
    await spool.keep([Waiting("ada", "key1", "/Ask", RECEIPT)])
    (tmp_path / "receipts" / "00.1.usages").write_bytes(b"\xff\xff\xff")

    async def empty():
        return not await spool.names()

    async with running(Ledger(reachable=True, refuses=True), spool):
        await until(empty)


async def test_a_receipt_that_an_older_gateway_left_is_read(spool, tmp_path):
    waiting = Waiting("ada", "key1", "/Ask", RECEIPT)
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "00.usage").write_bytes(to_record(waiting).SerializeToString())
    assert await spool.read("00.usage") == [waiting]
    assert await spool.waiting() == 1


async def test_a_receipt_whose_caller_leaves_while_access_is_slow_is_recorded_all_the_same(spool):
    ledger = Ledger(reachable=True)
    ledger.open.clear()
    async with running(ledger, spool) as ours:
        recording = asyncio.create_task(ours.record("ada", "key1", "/Ask", RECEIPT))
        await ledger.asked.wait()
        recording.cancel()
        with pytest.raises(asyncio.CancelledError):
            await recording
        ledger.open.set()

        async def kept():
            await asyncio.sleep(0)
            return bool(ledger.kept)

        await until(kept)


async def test_what_has_no_answer_from_access_when_the_server_ends_is_on_the_disk(spool):
    ledger = Ledger(reachable=True)
    ledger.open.clear()
    async with running(ledger, spool) as ours:
        recording = asyncio.ensure_future(ours.record("ada", "key1", "/Ask", RECEIPT))
        await ledger.asked.wait()
    assert not recording.done()
    recording.cancel()
    (name,) = await spool.names()
    assert await spool.read(name) == [Waiting("ada", "key1", "/Ask", RECEIPT)]


async def test_the_background_pauses_only_after_access_could_not_be_reached(spool):
    ledger = Ledger(reachable=True)
    await spool.keep([Waiting("ada", "key1", "/Ask", RECEIPT)])

    async def recorded():
        await asyncio.sleep(0)
        return bool(ledger.kept)

    async with running(ledger, spool, pause=lambda _: asyncio.Event().wait()):
        await until(recorded)
    assert [kept.receipt for kept in ledger.kept] == [RECEIPT]


class Choosy(Ledger):
    """Access that answers a call with the failure that ``fault`` has for it, if it has one."""

    def __init__(self, fault) -> None:
        super().__init__(reachable=True)
        self.fault = fault

    async def record(self, batch):
        failure = self.fault(batch)
        if failure is not None:
            self.calls.append(len(batch))
            raise failure
        return await super().record(batch)

    @property
    def ids(self) -> list[str]:
        return sorted(kept.receipt.request_id for kept in self.kept)


def of(*numbers: int) -> list[Waiting]:
    return [Waiting("ada", "k", "/Ask", receipt(number)) for number in numbers]


def broken(*ids: str, why: Reason = Reason.INTERNAL):
    """A fault of the records that have these ids."""
    failure = Failure(why, correlation_id="") if why is Reason.INTERNAL else Failure(why)
    return lambda batch: failure if any(one.receipt.request_id in ids for one in batch) else None


async def test_what_access_takes_no_call_of_is_recorded_one_by_one(spool):
    def too_large(batch):
        size = sum(to_record(one).ByteSize() for one in batch)
        return Failure(Reason.INTERNAL, correlation_id="") if size > 4096 else None

    ledger = Choosy(too_large)

    async def all_recorded():
        return not await spool.names()

    async with running(ledger, spool) as ours:
        await asyncio.gather(*(ours.record("ada", "k", "/Ask", receipt(number)) for number in range(200)))
        await until(all_recorded)
    assert len(set(ledger.ids)) == 200


async def test_a_record_at_fault_waits_alone_and_nobody_waits_with_it(spool):
    ledger = Choosy(broken("r1", "r3"))
    await spool.keep(of(0, 1, 2, 3, 4))
    rests = asyncio.Event()

    async def resting(_: float) -> None:
        rests.set()
        await asyncio.Event().wait()

    async with running(ledger, spool, pause=resting) as ours:
        await rests.wait()
        assert ledger.ids == ["r0", "r2", "r4"]
        # Names of one millisecond sort by chance.
        alone = [await spool.read(name) for name in await spool.names()]
        assert sorted(one.receipt.request_id for (one,) in alone) == ["r1", "r3"]
        # Access is there: what ends now is given to it at once.
        await ours.record("ada", "k", "/Ask", receipt(5))
        assert ledger.ids == ["r0", "r2", "r4", "r5"]
        await ours.record("ada", "k", "/Ask", receipt(3))
        await ours.record("ada", "k", "/Ask", receipt(6))
        assert ledger.ids == ["r0", "r2", "r4", "r5", "r6"]


async def test_a_batch_that_is_no_call_for_access_is_refused_one_by_one(spool):
    ledger = Choosy(broken("r1", why=Reason.REQUEST_INVALID))
    await spool.keep(of(0, 1, 2))

    async def all_settled():
        return not await spool.names()

    async with running(ledger, spool):
        await until(all_settled)
    assert ledger.ids == ["r0", "r2"]


@pytest.mark.parametrize("in_each", [1, 2])
async def test_however_many_batches_are_at_fault_a_newer_one_is_recorded(spool, in_each):
    numbers = [tuple(range(place, place + in_each)) for place in range(0, 20 * in_each, in_each)]
    for batch in numbers:
        await spool.keep(of(*batch))
    await spool.keep(of(100))
    rests = asyncio.Event()

    async def resting(_: float) -> None:
        rests.set()
        await asyncio.Event().wait()

    ledger = Choosy(broken(*(f"r{number}" for batch in numbers for number in batch)))
    async with running(ledger, spool, pause=resting):
        await rests.wait()
    assert ledger.ids == ["r100"]
    assert await spool.waiting() == 20 * in_each


async def test_what_is_left_when_the_server_ends_is_kept_in_batches_that_access_takes(spool):
    ledger = Ledger(reachable=True)
    ledger.open.clear()
    async with running(ledger, spool) as ours:
        left = [asyncio.ensure_future(ours.record("ada", "k", "/Ask", receipt(number))) for number in range(600)]
        await ledger.asked.wait()
    for one in left:
        one.cancel()
    batches = [await spool.read(name) or [] for name in await spool.names()]
    assert [len(batch) for batch in batches] == [256, 256, 88]
    assert [one for batch in batches for one in batch] == of(*range(600))
