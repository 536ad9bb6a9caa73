"""Parts of benchmarks that are too long to run whole: ``python -m tests.load.bench_check.quick_parts generator``.

generator  four speed ratios of two engines (LoRA disabled, four adapters resident) instead of nine ratios of six
trainer    one point of the curve of joint training: 50 jobs of 32 tokens a step over the sequential loop

The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping

from tests.load.generator import speed
from tests.load.machine import hardware
from tests.load.trainer.parts import Figures, rounded
from tests.load.trainer.speed import CURVE
from tests.load.trainer.threading_ways import SLEEPING, measured

_ENGINE_ROUNDS = 5
_TRAINER_ROUNDS = 3
_KEYS = ("base_decode_ratio", "one_decode_ratio", "four_decode_ratio", "one_prefill_ratio")
# Those need two engines, and an engine takes most of a minute to start.
RATIOS = tuple(ratio for ratio in speed.RATIOS if ratio.key in _KEYS)


def generator() -> Figures:
    """Return the ratios between the engine with four resident adapters and the one that has LoRA disabled."""
    return dict(speed.figures(RATIOS, _ENGINE_ROUNDS))


def trainer() -> Figures:
    """Return the first point of the curve, with threads that sleep while they wait, as the trainer's own do."""
    tokens, jobs = CURVE[0]
    return measured(SLEEPING, "joint", jobs=jobs, tokens=tokens, rounds=_TRAINER_ROUNDS)


PARTS: Mapping[str, Callable[[], Figures]] = {"generator": generator, "trainer": trainer}


def main() -> None:
    """Run one part, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    part = parser.parse_args().part
    print(json.dumps({"benchmark": part, "hardware": hardware(), **rounded(PARTS[part]())}))


if __name__ == "__main__":
    main()
