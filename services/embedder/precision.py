"""Which element type the model computes in: decided once, by what the processor has and by trying.

bfloat16 is 1.7 to 2.7 times faster where the processor has instructions for it and a
hundred times slower where it has not, so the flag is asked first and the gain measured.
Processor time is compared, not wall time: a busy machine must not change the answer.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.embedder.batching import Batch, Product
from services.embedder.config import Precision
from services.embedder.model import Encoder, ordinary_ids

_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
_LEAST_COSINE = 0.999
_LEAST_GAIN = 1.1
_TRIES = 3

_ROWS = 8
_LENGTH = 64

Loader = Callable[[str], Encoder]


@dataclass(frozen=True, slots=True)
class Trial:
    """What the self-test found: least cosine with float32, and how many times faster."""

    cosine: float
    gain: float

    @property
    def passed(self) -> bool:
        """Whether bfloat16 is as right as it must be and faster enough to be worth it."""
        return self.cosine >= _LEAST_COSINE and self.gain >= _LEAST_GAIN


# Runs the exact encoder and the fast one on one sample.
Compare = Callable[[Encoder, Encoder], Trial]


def processor_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor computes in bfloat16 natively."""
    if not cpuinfo.is_file():
        return False
    for line in cpuinfo.read_text().splitlines():
        if line.startswith("flags"):
            return not _FLAGS.isdisjoint(line.split())
    return False


def choose(
    wanted: Precision, load: Loader, has_bfloat16: bool, beside: Compare | None = None
) -> tuple[Encoder, Trial | None]:
    """The encoder to serve with, and what its trial found if there was one.  Blocks for seconds.

    ``beside`` runs the two beside each other where that is not to be done here and now.
    """
    if wanted is Precision.BFLOAT16:
        return load("bfloat16"), None
    exact = load("float32")
    if wanted is Precision.FLOAT32 or not has_bfloat16:
        return exact, None
    fast = load("bfloat16")
    trial = (beside or compare)(exact, fast)
    return (fast if trial.passed else exact), trial


def compare(exact: Encoder, fast: Encoder) -> Trial:
    """Run both on the same sample, the first time unmeasured."""
    length = min(_LENGTH, exact.facts.max_tokens)
    batch = Batch(Product.POOLED, ordinary_ids(exact.facts.vocabulary, _ROWS, length))
    cosine = float(np.min(np.sum(np.stack(exact.compute(batch)) * np.stack(fast.compute(batch)), axis=1)))
    return Trial(cosine, _cost(exact, batch) / max(_cost(fast, batch), 1e-9))


def _cost(encoder: Encoder, batch: Batch) -> float:
    """Least processor time of a few runs, in seconds."""
    costs = []
    for _ in range(_TRIES):
        began = time.process_time()
        encoder.compute(batch)
        costs.append(time.process_time() - began)
    return min(costs)
