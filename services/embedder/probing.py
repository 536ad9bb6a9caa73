"""What a machine does best with a model: its element type and the size of a batch, found once and remembered.

Which budget of tokens is fastest depends on caches and cores, so it is tried, in a few
seconds.  Invariant: a remembered finding is of this model, this engine, this many
threads and this processor, or it is not used; losing the memory costs those seconds, never a request.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from services.chassis.errors import Failure
from services.chassis.files import write_atomically
from services.chassis.processor import processor
from services.embedder.batching import Batch, Product, TokenIds, padded_length
from services.embedder.model import Encoder, ordinary_ids

BUDGETS: tuple[int, ...] = (512, 1024, 2048, 4096, 8192)
_SECONDS = 6.0
_MOST = 1000
# Texts of all lengths stand in a batch, as in a service: a multiple of these, which share no factor, cut at the most.
_LENGTHS, _STEP = 211, 37
# A larger batch is taken only where it is faster by so much: smaller ones keep questions waiting less.
_WORTH = 1.05


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found best: element type and padded tokens of a batch; 0 where the budget was not tried."""

    dtype: str
    batch_tokens: int = 0


def machine(digest: str, engine: str, threads: int) -> str:
    """What a finding holds for, in words."""
    here = processor()
    return f"{digest} {engine} {threads} threads, {_processor_name()} {' '.join(sorted(here.instructions))}"


def _processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    with suppress(OSError):
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}, {os.cpu_count()} processors"
    return f"{processor().vendor}, {os.cpu_count()} processors"


def recall(path: Path, on: str) -> Finding | None:
    """What was found before on ``on``; None where nothing is remembered, or nothing readable."""
    with suppress(KeyError, TypeError, ValueError):
        found = _read(path)[on]
        finding = Finding(str(found["dtype"]), int(found["batch_tokens"]))  # type: ignore[index]  # what is not so is caught
        if finding.dtype in ("float32", "bfloat16", "float16") and (finding.batch_tokens in (0, *BUDGETS)):
            return finding
    return None


def remember(path: Path, on: str, finding: Finding) -> None:
    """Remember a finding for later starts, if the disk lets us; of very many the oldest is forgotten."""
    found = {**_read(path), on: asdict(finding)}
    findings = dict(list(found.items())[-_MOST:])
    with suppress(OSError, Failure):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(findings, indent=1).encode())


def _read(path: Path) -> Mapping[str, object]:
    with suppress(OSError, ValueError):
        found = json.loads(path.read_text())
        if isinstance(found, dict):
            return found
    return {}


def fastest_budget(
    encoder: Encoder, threads: int, *, seconds: float = _SECONDS, clock: Callable[[], float] | None = None
) -> int:
    """The budget of :data:`BUDGETS` with the least time a token, of those that ``seconds`` suffice to try.  Blocks.

    With one thread its processor time counts, which a busy machine does not change; with more the time that passes.
    """
    now = clock or (time.process_time if threads == 1 else time.perf_counter)
    costs: dict[int, float] = {}
    encoder.compute(_sample(encoder, BUDGETS[0]))
    until = now() + seconds
    contenders, tried = BUDGETS, True
    while tried:
        tried = False
        # One after the other, again and again: what the machine does beside slows all of them alike.
        for budget in contenders:
            batch = _sample(encoder, budget)
            tokens = sum(map(len, batch.sequences))
            if costs and now() + min(costs.values()) * tokens > until:
                break
            began = now()
            encoder.compute(batch)
            costs[budget] = min(costs.get(budget, math.inf), (now() - began) / tokens)
            tried = True
        best = min(costs.values())
        found = next(budget for budget in BUDGETS if budget in costs and costs[budget] <= best * _WORTH)
        contenders = tuple(budget for budget in BUDGETS if budget <= 2 * found)
    return found


def _sample(encoder: Encoder, budget: int) -> Batch:
    """Sequences of nothing in particular that fill a budget, of lengths that the model takes.

    Of all lengths where the model does not pad, else of the middle one: a batch then holds one length.
    """
    facts = encoder.facts
    sequences: list[TokenIds] = []
    left = budget
    while True:
        wanted = _LENGTHS // 2 if encoder.pads else 1 + _STEP * (len(sequences) + 1) % _LENGTHS
        length = min(wanted, facts.max_tokens)
        left -= padded_length(length) if encoder.pads else length
        if sequences and left < 0:
            return Batch(Product.POOLED, tuple(sequences))
        sequences += ordinary_ids(facts.vocabulary, 1, length)
