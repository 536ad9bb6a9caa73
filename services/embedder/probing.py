"""What a machine does best with a model: its element type and the size of a batch, found once and remembered.

Which budget of padded tokens is fastest depends on caches and cores, so it is tried, in
a second or two.  Invariant: a remembered finding is of this model, this engine, this many
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
from services.embedder.batching import LENGTH_STEP, Batch, Product
from services.embedder.model import Encoder, ordinary_ids

BUDGETS = (512, 1024, 2048, 4096, 8192)
_SECONDS = 2.0
_MOST = 1000
# Passages of a retriever are about this long.
_LENGTH = 128
# A larger batch is taken only where it is faster by so much: smaller ones keep questions waiting less.
_WORTH = 1.03


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
    while True:
        tried = False
        for budget in BUDGETS:
            least = min(costs.values(), default=0.0)
            if costs and now() + least * budget > until:
                break
            batch = _sample(encoder, budget)
            began = now()
            encoder.compute(batch)
            costs[budget] = min(costs.get(budget, math.inf), (now() - began) / budget)
            tried = True
        if not tried:
            break
    best = min(costs.values())
    return next(budget for budget in BUDGETS if budget in costs and costs[budget] <= best * _WORTH)


def _sample(encoder: Encoder, budget: int) -> Batch:
    """Sequences of nothing in particular that fill a budget, of a length that the model takes."""
    length = min(_LENGTH, encoder.facts.max_tokens // LENGTH_STEP * LENGTH_STEP or LENGTH_STEP)
    rows = max(1, budget // length)
    ids = ordinary_ids(encoder.facts.vocabulary, rows, min(length, encoder.facts.max_tokens))
    return Batch(Product.POOLED, length, ids)
