"""The quick parts: which command measures what, which of its figures are compared, and how far each may fall.

A figure is compared across machines only where it is a ratio of two things that were measured beside each other.
Milliseconds are compared with those of the same hardware.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from enum import StrEnum

# A share of the stored median: the least margin below the worst stored run, for runs that hardly differ.
DEFAULT_SHARE = 0.10


class Better(StrEnum):
    """Which values of a figure are better."""

    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True)
class Key:
    """A figure of a benchmark's last line.

    ``share`` (of the stored median) and ``least`` (in the figure's own unit) bound its tolerance from below, see
    :mod:`tests.load.bench_check.comparison`.
    """

    name: str
    better: Better = Better.HIGHER
    share: float = DEFAULT_SHARE
    least: float = 0.0
    is_ratio: bool = True


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A command whose last line of output is a JSON object, its figures, and how long it takes on two cores.

    It is ended after ``limit_seconds``.
    """

    name: str
    command: tuple[str, ...]
    keys: tuple[Key, ...]
    seconds: int
    limit_seconds: float

    @property
    def told(self) -> str:
        """The command as a person types it."""
        return shlex.join("python" if part == sys.executable else part for part in self.command)


def _module(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


BENCHMARKS = (
    Benchmark(
        "rpc",
        _module("tests.load.rpc"),
        (Key("unary_ratio"), Key("unary_cpu_ratio"), Key("stream_ratio"), Key("stream_cpu_ratio")),
        seconds=90,
        limit_seconds=300,
    ),
    Benchmark(
        "embedder",
        _module("tests.load.embedder", "--part", "batch", "--part", "grpc"),
        (
            Key("batch_ratio"),
            Key("grpc_ratio"),
            # The vectors are the same in each run: rounding to bf16 alone moves them.
            Key("cosine_min", share=0.0002),
            Key("texts_that_depend_on_neighbours", Better.LOWER),
        ),
        seconds=150,
        limit_seconds=480,
    ),
    Benchmark(
        "generator",
        _module("tests.load.bench_check.quick_parts", "generator"),
        (
            Key("base_decode_ratio"),
            Key("one_decode_ratio"),
            Key("four_decode_ratio"),
            Key("one_prefill_ratio"),
        ),
        seconds=212,
        limit_seconds=600,
    ),
    Benchmark(
        "trainer",
        _module("tests.load.bench_check.quick_parts", "trainer"),
        (Key("joint_ratio_32"), Key("joint_cpu_ratio_32")),
        seconds=120,
        limit_seconds=420,
    ),
    Benchmark(
        "retriever",
        _module("tests.load.retriever", "--part", "quality", "--set", "xquad", "--set", "cranfield", "--no-rerank"),
        # Vectors and questions are the same in each run, so nothing scatters.
        (Key("ndcg_xquad", share=0.005), Key("ndcg_cranfield", share=0.01), Key("not_ingested", Better.LOWER)),
        seconds=60,
        # A machine's first run computes the vectors that later ones read.
        limit_seconds=900,
    ),
    Benchmark(
        "gateway",
        _module("tests.load.gateway", "--part", "chat", "--scale", "0.25"),
        (
            Key("throughput_ratio"),
            Key("adapter_throughput_ratio"),
            Key("ttft_overhead_ms", Better.LOWER, least=5.0, is_ratio=False),
            Key("adapter_ttft_overhead_ms", Better.LOWER, least=5.0, is_ratio=False),
            Key("token_gap_overhead_ms", Better.LOWER, least=3.0, is_ratio=False),
        ),
        seconds=430,
        limit_seconds=720,
    ),
)
