"""Whatever is generated is recorded and counts, once, however often its caller gives one and the same id."""

import json
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.generation import CollectionVersion, Receipt, Sampling, Usage
from gateway.peers.access import of_record, to_record
from gateway.peers.messages import of_receipt, to_receipt
from gateway.peers.spool import FolderSpool
from gateway.receipts import Waiting, again, beside
from services.access.wire import answer_of
from services.chassis.context import serving
from services.chassis.errors import Failure, Reason
from services.chassis.runtime import new_id
from tests.unit.gateway.asking.stock import ASKING
from tests.unit.gateway.test_waiting_receipts import running, until

ID = "01890000-0000-7000-8000-000000000000"


class Access:
    """Keeps the first record of an id, as access does; ``fails_at`` is the call that it keeps and does not confirm."""

    def __init__(self, fails_at: int = 0) -> None:
        self.kept: dict[str, bytes] = {}
        self.spent = 0
        self.calls = 0
        self.fails_at = fails_at

    async def record(self, batch):
        self.calls += 1
        reasons = [self._kept(to_record(waiting)) for waiting in batch]
        if self.calls == self.fails_at:
            raise Failure(Reason.PEER_UNAVAILABLE, service="access")
        return reasons

    def _kept(self, record) -> str:
        content = record.receipt.SerializeToString(deterministic=True)
        first = self.kept.setdefault(record.request_id, content)
        if first is content:
            self.spent += record.receipt.usage.prompt_tokens + record.receipt.usage.completion_tokens
        same = first == content or (record.unattended and answer_of(first) == answer_of(content))
        return "" if same else "REQUEST_ID_REUSED"

    async def receipt(self, request_id):
        raise AssertionError("nobody asks")


def answer(number: int, at: float = 1_796_000_000.123457) -> Receipt:
    sampling = Sampling(seed=7, temperature=0.7, logit_bias={9: 0.5, 3: -1.0})
    made = Receipt(ID, usage=Usage(number, 1), sampling=sampling, complete_time_seconds=at + number)
    # As it comes from the generator.
    return of_receipt(to_receipt(made))


@pytest.fixture
def spool(tmp_path):
    return FolderSpool(tmp_path / "receipts", new_id)


async def test_other_answers_under_an_id_are_kept_beside_the_first(spool):
    access = Access()
    async with running(access, spool) as ours:
        for number in (5, 6, 7):
            await ours.record("ada", "k", "/Chat", answer(number))
    first, *others = access.kept
    assert first == ID
    assert access.kept[ID] == to_record(Waiting("ada", "k", "/Chat", answer(5))).receipt.SerializeToString(
        deterministic=True
    )
    assert len(others) == 2
    assert all(other.startswith(f"{ID}~again-") for other in others)
    assert access.spent == 5 + 6 + 7 + 3


@pytest.mark.parametrize(
    ("asking", "counted"),
    [(nullcontext(), 6), (serving(ASKING), 6), (serving(replace(ASKING, actor="files")), 2)],
    ids=["nobody", "caller", "service"],
)
async def test_an_answer_that_is_computed_again_counts_again_unless_a_service_asks_for_one_who_does_not_wait(
    spool, asking, counted
):
    def said(prompt: str, at: float) -> Receipt:
        digests: dict[str, Any] = {"prompt_tokens_digest": f"sha256:{prompt}", "completion_digest": "sha256:c"}
        # Documents may come meanwhile, and none of them is in it.
        of = (CollectionVersion("ferry", f"v{at}"),)
        return replace(answer(5, at), **digests, engine_slot=int(at) % 3, collections=of)

    access = Access()
    async with running(access, spool) as ours:
        with asking:
            for at in (1.0, 2.0, 3.0):
                for prompt in ("p", "q"):
                    await ours.record("ada", "k", "/Chat", said(prompt, at))
    assert len(access.kept) == counted
    assert access.spent == counted * 6


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
async def test_what_is_given_to_access_again_after_a_crash_is_no_other_answer(spool, fails_at):
    access = Access(fails_at)
    async with running(access, spool) as ours:
        for number in (5, 6, 7):
            await ours.record("ada", "k", "/Chat", answer(number))

    async def all_recorded():
        return not await spool.names()

    async with running(access, spool):
        await until(all_recorded)
    assert len(access.kept) == 3
    assert access.spent == 5 + 6 + 7 + 3


async def test_two_answers_that_end_together_under_an_id_are_two(spool):
    access = Access()
    await spool.keep([Waiting("ada", "k", "/Chat", answer(5)), Waiting("ada", "k", "/Chat", answer(6))])

    async def all_recorded():
        return not await spool.names()

    async with running(access, spool):
        await until(all_recorded)
    assert access.spent == 5 + 6 + 2


@settings(max_examples=50)
@given(microseconds=st.integers(1_700_000_000_000_000, 2_200_000_000_000_000))
def test_a_receipt_that_waited_on_the_disk_is_the_one_that_it_was(microseconds):
    kept = Waiting("ada", "k", "/Chat", answer(0, microseconds / 1e6), "p", unattended=True)
    read = of_record(to_record(kept))
    assert to_record(read).SerializeToString(deterministic=True) == to_record(kept).SerializeToString(
        deterministic=True
    )
    assert read == kept
    assert again(read) == again(kept)


def test_what_is_recorded_decides_the_id_beside_anothers():
    one = Waiting("ada", "k", "/Chat", answer(5))
    assert again(one) == again(one)
    others = (replace(one, principal="l"), replace(one, project="p"), replace(one, method="/Ask"))
    for other in (*others, replace(one, receipt=answer(6))):
        assert again(other).receipt.request_id != again(one).receipt.request_id


def test_no_id_beside_anothers_is_longer_than_access_keeps():
    name = ID
    for _ in range(5):
        name = beside(name, f"replay-{ID}")
        assert len(name) <= 128
        assert name.endswith(f"~replay-{ID}")
    assert len(beside("x" * 128, "cancelled-123456789012")) == 128
    assert beside(ID, "again-1") == f"{ID}~again-1"


async def test_a_record_that_is_refused_under_its_own_id_too_holds_up_no_other(spool, capsys):
    class Stubborn(Access):
        async def record(self, batch):
            return ["REQUEST_ID_REUSED" for _ in batch]

    async with running(Stubborn(), spool) as ours:
        await ours.record("ada", "k", "/Chat", answer(5))
    assert await spool.names() == []
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    # What is kept nowhere is not told as recorded.
    assert [it["event"] for it in told] == ["receipt_refused"]
