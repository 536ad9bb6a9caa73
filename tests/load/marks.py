"""Do the right weights answer?  ``python -m tests.load.marks [--count 2000] [--stock 200]``.

Three marked adapters and the base are asked in mixed batches through the served
generator, half of the requests over a full table of slots and half over a half-full one.
Every answer must consist of the mark of the version that its receipt names, and that
version (read from the engine's slot) must be the one asked for; a base answer must hold
no mark.  The same requests are then put to vLLM's own CPU path, which fails.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from trivium.generator.v1 import generator_pb2

from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.conversation import Turn
from services.generator.engine import EngineAdapter, Job, Sampling
from services.generator.engine_vllm import VllmEngine, VllmSettings
from services.generator.tokenizer import BaseTokenizer
from tests.generating import QUESTIONS, Served, marked_adapters, tenant_of
from tests.load.marked import MarkedAdapter

SLOTS = 6
TRAFFIC = 3
TOKENS = 4
TOGETHER = 24


@dataclass(frozen=True)
class Tally:
    """How many answers came, how many were not of the weights asked for, how many did not name them."""

    name: str
    answers: int
    by_weights: Counter[str]
    wrong_marks: int
    not_named: int
    slots_used: tuple[int, ...]
    seconds: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.name:34} {self.answers:6} answers  {self.wrong_marks:5} wrong marks  "
            f"{self.not_named:5} versions not named  slots {list(self.slots_used)}  {self.seconds:7.1f} s"
        )


def schedule(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """(question, adapter) pairs in random order, adapter TRAFFIC standing for the base."""
    draw = random.Random(seed)
    for number in range(count):
        yield f"{draw.choice(QUESTIONS)} ({number % 7})", draw.randrange(TRAFFIC + 1)


def is_wrong(tokens: Sequence[int], wanted: int | None, marks: set[int]) -> bool:
    """Whether an answer is not purely of its own weights; ``wanted`` None for the base."""
    return bool(set(tokens) & marks) if wanted is None else set(tokens) != {wanted}


def served_phase(name: str, caller, versions: list[str], adapters: list[MarkedAdapter], count: int, seed: int) -> Tally:
    """Ask the served generator, TOGETHER requests at a time."""
    marks = {adapter.token_id for adapter in adapters}
    wrong_marks = not_named = 0
    slots: set[int] = set()
    by_weights: Counter[str] = Counter()
    began = time.monotonic()

    def ask(item: tuple[str, int]):
        question, index = item
        version = versions[index] if index < TRAFFIC else ""
        return index, version, caller.answer(question, version, max_tokens=TOKENS)

    with ThreadPoolExecutor(TOGETHER) as pool:
        for index, version, answer in pool.map(ask, schedule(count, seed)):
            wanted = adapters[index].token_id if version else None
            by_weights[adapters[index].word.strip() if version else "base"] += 1
            wrong_marks += is_wrong(answer.token_ids, wanted, marks)
            not_named += answer.receipt.version_digest != version
            slots.add(answer.receipt.engine_slot)
    return Tally(name, count, by_weights, wrong_marks, not_named, tuple(sorted(slots)), time.monotonic() - began)


def ours(count: int) -> list[Tally]:
    """The served generator: half over a full table, half over a half-full one."""
    with tempfile.TemporaryDirectory(prefix="marks-") as folder:
        served = Served(Path(folder), {"TRIVIUM_GENERATOR_MAX_LORAS": str(SLOTS)})
        try:
            served.start()
            tenant, adapters = tenant_of(served), marked_adapters(served.base, SLOTS)
            versions = [tenant.publish(f"mark-{index}", one, served.base) for index, one in enumerate(adapters)]
            for version in versions:
                tenant.generator.api.LoadAdapter(generator_pb2.LoadAdapterRequest(version=version))
            full = served_phase("ours, full table", tenant.generator, versions, adapters, count // 2, 1)
            for version in versions[TRAFFIC:]:
                tenant.generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
            half = served_phase("ours, half-full table", tenant.generator, versions, adapters, count - count // 2, 2)
            return [full, half]
        finally:
            served.close()


async def stock(count: int) -> Tally:
    """VLLM's own CPU path: the same engine without the plugin, the same marks, a full table."""
    base = resolve(DEFAULT_BASE)
    tokenizer, adapters = BaseTokenizer(base.path), marked_adapters(base, SLOTS)
    engine = VllmEngine(VllmSettings(base.path, base.name, base.digest, slots=SLOTS, cpu_ids="0-1", plugins=""))
    await engine.start()
    try:
        loaded = [EngineAdapter(number + 1, f"m{number}@x", one.folder) for number, one in enumerate(adapters)]
        for adapter in loaded:
            await engine.load(adapter)
        marks = {adapter.token_id for adapter in adapters}
        numbers, gate, wrong, began = itertools.count(), asyncio.Semaphore(TOGETHER), 0, time.monotonic()
        by_weights: Counter[str] = Counter()

        async def ask(question: str, index: int) -> bool:
            chosen = loaded[index] if index < TRAFFIC else None
            prompt = tokenizer.chat([Turn("user", question)])
            tokens: list[int] = []
            async with gate:
                job = Job(f"r{next(numbers)}", prompt, Sampling(max_tokens=TOKENS), None, chosen, "t")
                async for piece in engine.generate(job):
                    tokens += piece.token_ids
            by_weights[adapters[index].word.strip() if chosen else "base"] += 1
            return is_wrong(tokens, adapters[index].token_id if chosen else None, marks)

        wrong = sum(await asyncio.gather(*(ask(question, index) for question, index in schedule(count, 1))))
        return Tally("stock vLLM, full table", count, by_weights, wrong, count, (), time.monotonic() - began)
    finally:
        await engine.stop()


def main() -> None:
    """Run both, print a table, and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--stock", type=int, default=200)
    options = parser.parse_args()
    tallies = ours(options.count) if options.count else []
    if options.stock:
        tallies.append(asyncio.run(stock(options.stock)))
    for tally in tallies:
        print(tally.line(), dict(sorted(tally.by_weights.items())))
    mine = [tally for tally in tallies if tally.name.startswith("ours")]
    theirs = [tally for tally in tallies if not tally.name.startswith("ours")]
    print(
        json.dumps(
            {
                "answers": sum(tally.answers for tally in mine),
                "wrong_marks": sum(tally.wrong_marks for tally in mine),
                "not_named": sum(tally.not_named for tally in mine),
                "stock_answers": sum(tally.answers for tally in theirs),
                "stock_wrong_marks": sum(tally.wrong_marks for tally in theirs),
            }
        )
    )


if __name__ == "__main__":
    main()
