import asyncio

import numpy as np
import pytest

from services.chassis.errors import Failure, Reason
from services.embedder.batching import Batch, Batcher, Flow, Product, padded_length

ADA = Flow("ada", urgent=False)
ADA_ASKS = Flow("ada", urgent=True)
BEN = Flow("ben", urgent=False)


class Bench:
    """Computes nothing, but holds batches back until told, and remembers them."""

    def __init__(self, **settings):
        self.batches: list[Batch] = []
        self.gate = asyncio.Event()
        self.arrived = asyncio.Event()
        self.error: Exception | None = None
        self.now = 0.0
        self.batcher = Batcher(
            self.compute, **{"batch_tokens": 64, "queue_tokens": 10_000, **settings}, clock=lambda: self.now
        )
        self.running = asyncio.create_task(self.batcher.run())

    async def compute(self, batch):
        self.batches.append(batch)
        self.arrived.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return [np.array([ids[0]], dtype=np.float32) for ids in batch.sequences]

    def submit(self, flow, *sequences, **rest):
        return asyncio.create_task(self.batcher.submit(flow, Product.POOLED, list(sequences), **rest))

    async def queued(self):
        """Let everybody run who can: they then wait for the model."""
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    made.running.cancel()


def text(first: int, tokens: int = 10):
    return (first, *range(1, tokens))


async def blocked(bench):
    """Keep the model busy, so that what comes now waits together."""
    first = bench.submit(ADA, text(999, 3))
    await bench.arrived.wait()
    return first


async def test_a_batch_holds_one_padded_length(bench):
    await blocked(bench)
    waiting = [bench.submit(ADA, text(1, 10), text(2, 30), text(3, 12), text(4, 31))]
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(*waiting)
    for batch in bench.batches:
        assert {padded_length(len(ids)) for ids in batch.sequences} == {batch.length}


async def test_a_batch_stays_within_the_token_budget_but_one_long_text_is_never_refused(bench):
    await blocked(bench)
    waiting = [bench.submit(ADA, *(text(n) for n in range(10))), bench.submit(ADA, text(77, 500))]
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(*waiting)
    for batch in bench.batches:
        assert batch.length * len(batch.sequences) <= 64 or len(batch.sequences) == 1
    # No more batches than that takes: the one before, three of four and half of one, and the long one.
    assert len(bench.batches) == 1 + 3 + 1


async def test_without_padding_any_lengths_go_together_in_the_order_of_turns_and_within_the_budget():
    bench = Bench(pads=False)
    await blocked(bench)
    waiting = bench.submit(ADA, text(1, 10), text(2, 30), text(3, 17), text(4, 9), text(5, 3))
    await bench.queued()
    assert bench.batcher.waiting_tokens == 10 + 30 + 17 + 9 + 3
    bench.gate.set()
    await waiting
    assert [[ids[0] for ids in batch.sequences] for batch in bench.batches] == [[999], [1, 2, 3], [4, 5]]
    assert bench.batcher.waiting_tokens == bench.batcher.counters.padding == 0
    bench.running.cancel()


async def test_answers_come_in_the_order_of_the_texts(bench):
    bench.gate.set()
    vectors = await bench.submit(ADA, text(5, 40), text(6, 3), text(7, 20), text(8, 3))
    assert [int(v[0]) for v in vectors] == [5, 6, 7, 8]


async def test_identical_texts_of_a_tenant_are_computed_once(bench):
    await blocked(bench)
    waiting = [bench.submit(ADA, *[text(1)] * 20), bench.submit(ADA, text(1))]
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(*waiting)
    assert sum(len(batch.sequences) for batch in bench.batches[1:]) == 1
    assert bench.batcher.counters.shared == 20


async def test_a_text_that_is_being_computed_is_waited_for_and_not_computed_again(bench):
    early = bench.submit(ADA, text(1))
    await bench.arrived.wait()
    twin, other = bench.submit(ADA_ASKS, text(1)), bench.submit(BEN, text(1))
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(early, twin, other)
    assert [len(batch.sequences) for batch in bench.batches] == [1, 1]
    assert bench.batcher.counters.shared == 1


async def test_a_twin_at_the_end_of_a_long_lane_is_answered_with_the_first(bench):
    await blocked(bench)
    first = bench.submit(ADA, text(1))
    long = bench.submit(ADA, *(text(n) for n in range(2, 600)))
    await bench.queued()
    last = bench.submit(ADA, text(1))
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(first, last)
    assert not long.done()
    await long
    assert bench.batcher.waiting_tokens == 0
    assert bench.batcher.counters.dropped == 0


async def test_a_twin_whose_caller_has_gone_takes_nobody_with_it(bench):
    await blocked(bench)
    gone, kept = bench.submit(ADA, text(1)), bench.submit(ADA, text(1))
    await bench.queued()
    gone.cancel()
    await bench.queued()
    bench.gate.set()
    assert int((await kept)[0][0]) == 1
    assert bench.batcher.waiting_tokens == 0
    assert bench.batcher.counters.dropped == 1


async def test_two_tenants_share_no_computation(bench):
    await blocked(bench)
    waiting = [bench.submit(ADA, text(1)), bench.submit(BEN, text(1))]
    await bench.queued()
    bench.gate.set()
    await asyncio.gather(*waiting)
    assert sum(len(batch.sequences) for batch in bench.batches[1:]) == 2


async def test_a_question_does_not_wait_behind_documents(bench):
    await blocked(bench)
    documents = bench.submit(ADA, *(text(n, 50) for n in range(20)))
    await bench.queued()
    question = bench.submit(ADA_ASKS, text(42))
    await bench.queued()
    bench.gate.set()
    await question
    assert not documents.done()
    await documents


async def test_a_small_tenant_does_not_wait_behind_a_large_one(bench):
    await blocked(bench)
    large = bench.submit(ADA, *(text(n, 50) for n in range(50)))
    await bench.queued()
    small = bench.submit(BEN, text(42, 20))
    await bench.queued()
    bench.gate.set()
    await small
    assert len(bench.batches) <= 4
    large.cancel()


async def test_documents_are_not_starved_by_questions(bench):
    await blocked(bench)
    document = bench.submit(ADA, text(7, 60))
    questions = bench.submit(ADA_ASKS, *(text(n, 30) for n in range(100)))
    await bench.queued()
    bench.gate.set()
    await document
    assert not questions.done()
    await questions


async def test_cancelled_work_is_not_computed(bench):
    await blocked(bench)
    gone, kept = bench.submit(ADA, text(1)), bench.submit(ADA, text(2))
    await bench.queued()
    gone.cancel()
    await bench.queued()
    bench.gate.set()
    await kept
    assert all(ids[0] != 1 for batch in bench.batches for ids in batch.sequences)
    assert bench.batcher.waiting_tokens == 0


async def test_expired_work_is_told_so_and_not_computed(bench):
    await blocked(bench)
    late, kept = bench.submit(ADA, text(1), deadline=5.0), bench.submit(ADA, text(2))
    await bench.queued()
    bench.now = 6.0
    bench.gate.set()
    with pytest.raises(Failure) as failed:
        await late
    assert failed.value.reason is Reason.DEADLINE_EXCEEDED
    await kept
    assert all(ids[0] != 1 for batch in bench.batches for ids in batch.sequences)


async def test_a_full_queue_refuses_with_a_hint_and_lets_the_patient_wait():
    bench = Bench(queue_tokens=32)
    await blocked(bench)
    held = bench.submit(ADA, text(1), text(2))
    await bench.queued()
    with pytest.raises(Failure) as refused:
        await bench.submit(ADA, text(3))
    assert refused.value.reason is Reason.EMBEDDING_QUEUE_FULL
    assert refused.value.retry_after_seconds
    patient = bench.submit(ADA, text(4), patient=True)
    await bench.queued()
    assert not patient.done()
    bench.gate.set()
    await asyncio.gather(held, patient)
    bench.running.cancel()


async def test_a_request_larger_than_the_queue_is_served_when_it_comes_alone():
    bench = Bench(queue_tokens=16)
    bench.gate.set()
    assert len(await bench.submit(ADA, text(1), text(2), text(3))) == 3
    bench.running.cancel()


async def test_a_failed_batch_fails_its_callers_and_the_queue_goes_on(bench):
    bench.error = MemoryError("no room")
    bench.gate.set()
    with pytest.raises(MemoryError):
        await bench.submit(ADA, text(1))
    bench.error = None
    assert len(await bench.submit(ADA, text(2))) == 1


async def test_what_would_be_answered_too_late_is_refused_at_once_by_what_stands_before_it_in_its_own_flow(bench):
    early = await blocked(bench)
    bench.now = 16.0
    bench.gate.set()
    await early
    bench.gate.clear()
    bench.arrived.clear()
    await blocked(bench)
    waiting = bench.submit(ADA, *(text(n) for n in range(10)))
    await bench.queued()
    for late in (20.0, 100.0, 16.0 + 2 * 159):
        with pytest.raises(Failure) as refused:
            await asyncio.wait_for(bench.submit(ADA, text(77), deadline=late), 5)
        assert refused.value.reason is Reason.EMBEDDING_QUEUE_FULL
        assert refused.value.retry_after_seconds == pytest.approx(160, rel=0.01)
    others = [bench.submit(ADA, text(77), deadline=500.0), bench.submit(ADA_ASKS, text(78), deadline=20.0)]
    patient = bench.submit(ADA, text(79), deadline=20.0, patient=True)
    await bench.queued()
    assert not any(each.done() for each in [*others, patient])
    bench.gate.set()
    await asyncio.gather(waiting, *others, patient)
