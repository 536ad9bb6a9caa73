"""What batching by length and the processor's element type are worth: tokens a second of one core.

``python -m tests.load.embedding`` embeds the same synthetic texts three ways, alternating:
in batches of 32 as they arrive in float32 (how a plain script does it), through our queue
in float32, and through our queue in what the start-up trial chose.  Figures are tokens
without padding by processor time, one thread, so neighbours on the machine matter little;
batch invariance is counted on the way: texts whose vector alone has other bits than in the crowd.
"""

import argparse
import asyncio
import json
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from services.chassis import models
from services.embedder import model, precision
from services.embedder.batching import Batch, Batcher, Flow, Product, TokenIds, Vector, padded_length
from services.embedder.config import Precision

_BATCH = 32
_LONGEST = 256
Way = Callable[[Sequence[TokenIds]], Awaitable[list[Vector]]]


def sample(tokenizer: model.FastTokenizer, count: int) -> list[TokenIds]:
    """Texts of 3 to 180 words, as token ids, cut at the model's limit."""
    chance = random.Random(7)
    words = ["river", "ferry", "lantern", "harbour", "seventeen", "paper", "engine", "winterly", "crown", "of", "the"]
    texts = [" ".join(chance.choices(words, k=chance.randint(3, 180))) for _ in range(count)]
    return [ids[:_LONGEST] for ids in tokenizer.ids(texts)]


def arriving(encoder: model.Encoder) -> Way:
    """Batches of 32 in the order of arrival, padded to the longest."""

    async def run(sequences: Sequence[TokenIds]) -> list[Vector]:
        found: list[Vector] = []
        for first in range(0, len(sequences), _BATCH):
            some = tuple(sequences[first : first + _BATCH])
            found += encoder.compute(Batch(Product.POOLED, padded_length(max(map(len, some))), some))
        return found

    return run


def queued(encoder: model.Encoder) -> Way:
    """All at once through the queue."""

    async def compute(batch: Batch) -> list[Vector]:
        return encoder.compute(batch)

    async def run(sequences: Sequence[TokenIds]) -> list[Vector]:
        batcher = Batcher(compute, batch_tokens=2048, queue_tokens=10_000_000)
        running = asyncio.create_task(batcher.run())
        try:
            return await batcher.submit(Flow("bench", urgent=False), Product.POOLED, sequences)
        finally:
            running.cancel()

    return run


async def rate(way: Way, sequences: Sequence[TokenIds]) -> float:
    """Tokens a second of processor time."""
    began = time.process_time()
    await way(sequences)
    return sum(map(len, sequences)) / (time.process_time() - began)


async def other_bits(encoder: model.Encoder, sequences: Sequence[TokenIds]) -> int:
    """Texts whose vector depends on their neighbours."""
    way = queued(encoder)
    crowd = await way(sequences)
    alone = [(await way([ids]))[0] for ids in sequences]
    return sum(not np.array_equal(one, other) for one, other in zip(crowd, alone, strict=True))


async def measure(texts: int, rounds: int) -> dict[str, object]:
    """All ways, alternating, the first round unmeasured."""
    resolved = models.resolve(models.DEFAULT_EMBEDDING)

    def load(dtype: str) -> model.Encoder:
        return model.load(resolved, dtype=dtype, threads=1)

    chosen, trial = precision.choose(Precision.AUTO, load, precision.processor_has_bfloat16())
    exact = load("float32")
    sequences = sample(model.FastTokenizer(resolved.path), texts)
    ours = f"queue, {chosen.facts.compute_dtype}"
    ways = {"arrival order, float32": arriving(exact), "queue, float32": queued(exact), ours: queued(chosen)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            found = await rate(way, sequences)
            if number:
                rates[name].append(found)
    floor = statistics.median(rates["arrival order, float32"])
    print(f"{'way':26}{'tokens/s (median)':>20}{'spread':>18}{'ratio':>8}")
    for name, found_rates in rates.items():
        middle = statistics.median(found_rates)
        spread = f"{min(found_rates):.0f}..{max(found_rates):.0f}"
        print(f"{name:26}{middle:>20.0f}{spread:>18}{middle / floor:>8.2f}")
    return {
        "benchmark": "embedding",
        "machine": platform.processor() or platform.machine(),
        "texts": texts,
        "tokens": sum(map(len, sequences)),
        "tokens_per_cpu_second": {name: round(statistics.median(found)) for name, found in rates.items()},
        "trial": trial and {"cosine": round(trial.cosine, 6), "gain": round(trial.gain, 2)},
        "texts_that_depend_on_neighbours": {
            exact.facts.compute_dtype: await other_bits(exact, sequences),
            chosen.facts.compute_dtype: await other_bits(chosen, sequences),
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    print(json.dumps(asyncio.run(measure(wanted.texts, wanted.rounds))))


if __name__ == "__main__":
    main()
