"""Texts that arrive whether or not the service keeps up: what callers wait, what is shed, and that work goes on.

Arrivals are a Poisson process of single texts with a deadline of a second each; what the
service can do is measured first, by as many callers as keep it busy.  Where more comes
than it can do, refusals must come at once and the rest be served: `goodput` is answers
in time a second, over what the service can do.
"""

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator

import grpc

from tests.load.embedder import local
from tests.load.embedder.figures import Bench, Figures
from tests.load.percentile import percentile

_CALLERS = 64
_DEADLINE_SECONDS = 1.0
_RATES = (0.5, 1.5)


async def figures(bench: Bench) -> Figures:
    """Both rates."""
    texts = itertools.cycle(local.questions(5_000, seed=13))
    capacity = await _capacity(bench, texts)
    print(f"\nopen loop: the service answers {capacity:.0f} texts a second")
    found = {f"{round(rate * 100)}": await _arrivals(bench, texts, capacity, rate) for rate in _RATES}
    return {"capacity_texts_per_second": capacity, "open_loop": found}


async def _capacity(bench: Bench, texts: Iterator[str]) -> float:
    """Answers a second with so many callers that none of the service's turns is empty."""
    answered = 0
    until = time.perf_counter() + bench.seconds / 2

    async def caller() -> None:
        nonlocal answered
        while time.perf_counter() < until:
            await bench.served.embed([next(texts)], query=True)
            answered += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return answered / (time.perf_counter() - began)


async def _arrivals(bench: Bench, texts: Iterator[str], capacity: float, rate: float) -> Figures:
    chance = random.Random(17)
    waits: list[float] = []
    refused: list[float] = []
    ends: Counter[str] = Counter()

    async def call() -> None:
        began = time.perf_counter()
        try:
            await bench.served.embed([next(texts)], query=True, seconds=_DEADLINE_SECONDS)
        except grpc.aio.AioRpcError as error:
            ends[error.code().name] += 1
            refused.append(time.perf_counter() - began)
        else:
            waits.append(time.perf_counter() - began)

    began = due = time.perf_counter()
    async with asyncio.TaskGroup() as calls:
        while due < began + bench.seconds:
            due += chance.expovariate(capacity * rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.create_task(call())
    sent = len(waits) + len(refused)
    goodput = len(waits) / bench.seconds
    shed = len(refused) / sent
    print(
        f"  {rate:.0%}: {sent} sent, {shed:.1%} shed, {goodput / capacity:.2f} of capacity answered, "
        f"p50 {percentile(waits, 0.5) * 1000:.0f} ms, p99 {percentile(waits, 0.99) * 1000:.0f} ms"
    )
    return {
        "p50_ms": percentile(waits, 0.5) * 1000,
        "p99_ms": percentile(waits, 0.99) * 1000,
        "shed_rate": shed,
        "shed_p50_ms": percentile(refused, 0.5) * 1000 if refused else 0.0,
        "shed_by": dict(ends),
        "goodput": goodput / capacity,
        # Less than nine in ten of what could be done, or of what came.
        "collapsed": goodput < 0.9 * min(capacity, sent / bench.seconds),
    }
