"""The slot bank beside its peers and its floor: the curve of joint training, one job beside TRL, and the oracle.

A point of the curve has as many jobs as a pass of about 2,048 tokens holds: `joint_ratio_32` is of 50 jobs,
`joint_ratio_128` of 16.
"""

from __future__ import annotations

from tests.load.scaled import scaled
from tests.load.trainer.parts import Figures, say, spread
from tests.load.trainer.threading_ways import fairest, ways_at

# Tokens of a job's step, and jobs in a joint step: as many as a pass of about 2,048 tokens holds, at most 50.
CURVE = ((32, 50), (64, 32), (128, 16), (256, 8), (512, 4), (1024, 2), (2048, 1))
_TARGETS = {32: 2.0, 128: 1.3}
_ROUNDS = 5
# Of the points that no target is set for: sequentially each takes minutes where no matrix instructions multiply bf16.
_UNTARGETED_ROUNDS = 2
_TRL_ROWS, _TRL_TOKENS = 8, 64


def curve(scale: float) -> Figures:
    """`joint_ratio_32`, `joint_ratio_128`, the curve, `naive_loop_ratio`, `joint_floor_ratio`."""
    rounds = scaled(_ROUNDS, scale, least=2)
    points = CURVE if scale >= 1 else tuple((tokens, scaled(jobs, scale, least=2)) for tokens, jobs in CURVE[:3])
    found: Figures = {"joint_curve": {}}
    for tokens, jobs in points:
        own_rounds = rounds if tokens in _TARGETS else min(rounds, _UNTARGETED_ROUNDS)
        arguments = {"jobs": jobs, "tokens": tokens, "rounds": own_rounds, "naive": tokens == CURVE[0][0]}
        point, speeds = fairest(ways_at(scale), "sequential_tokens_per_second", "joint", **arguments)
        ratio = point[f"joint_ratio_{tokens}"]
        found["joint_curve"][str(tokens)] = {
            "ratio": ratio,
            "cpu_ratio": point[f"joint_cpu_ratio_{tokens}"],
            "lowest": min(point["rounds"]),
            "highest": max(point["rounds"]),
            "jobs": jobs,
            "tokens_per_second": point["tokens_per_second"],
            "sequential_tokens_per_second": speeds,
        }
        target = f", target {_TARGETS[tokens]}" if tokens in _TARGETS else ""
        say(
            f"{jobs} jobs of {tokens} tokens a step: {spread(point['rounds'])} times the sequential loop, "
            f"{point[f'joint_cpu_ratio_{tokens}']:.2f} by processor time (threads {point['threads_wait']}{target})"
        )
        if tokens in _TARGETS:
            found[f"joint_ratio_{tokens}"] = ratio
            found[f"joint_cpu_ratio_{tokens}"] = point[f"joint_cpu_ratio_{tokens}"]
        if "naive_loop_ratio" in point:
            found["naive_loop_ratio"] = point["naive_loop_ratio"]
            say(f"a loop over adapters inside one batch: {point['naive_loop_ratio']:.2f} times the sequential loop")
    found |= _floor(scale, points[0][1], rounds)
    return found


def _floor(scale: float, jobs: int, rounds: int) -> Figures:
    point, speeds = fairest(ways_at(scale), "floor_tokens_per_second", "floor", jobs=jobs, tokens=32, rounds=rounds)
    point["floor_tokens_per_second"] = speeds
    say(
        f"a joint step of {jobs} jobs of 32 tokens over forward and backward of the bare base: {spread(point['rounds'])} "
        f"(threads {point.pop('threads_wait')}, target: at most 1.4); over the bank's own pass without adapters "
        f"{point['own_floor_ratio']:.2f}"
    )
    point["joint_floor_spread"] = [min(point["rounds"]), max(point.pop("rounds"))]
    return point


def trl(scale: float) -> Figures:
    """`bank_one_ratio_trl`."""
    point, speeds = fairest(
        ways_at(scale),
        "trl_tokens_per_second",
        "trl",
        batch_rows=_TRL_ROWS,
        tokens=_TRL_TOKENS,
        rounds=scaled(_ROUNDS, scale, least=2),
    )
    each = point.pop("rounds")
    say(
        f"one job of {_TRL_ROWS} rows of {_TRL_TOKENS} tokens over TRL's SFTTrainer: {spread(each)}, "
        f"{point['bank_one_cpu_ratio_trl']:.2f} by processor time (threads {point['threads_wait']}; target: at least 1.2)"
    )
    return {
        "bank_one_ratio_trl": point["bank_one_ratio_trl"],
        "bank_one_cpu_ratio_trl": point["bank_one_cpu_ratio_trl"],
        "bank_one_spread": [min(each), max(each)],
        "trl_tokens_per_second": speeds,
    }


def oracle(_: float) -> Figures:
    """`oracle_relative_difference`: 20 steps in fp32 on the bank and by plain PEFT, the largest of several adapters.

    AdamW's first steps are as long for a gradient that is all rounding as for any other, so what remains between two
    correct implementations is much larger than their rounding.  How large that is, `oracle_gradient_error` says beside
    `oracle_gradient_error_peft`: of one batch's gradient, at trained weights, over the same in double precision.
    """
    import torch

    from tests.load.trainer.workers import THREADS, Base
    from tests.unit.trainer.bank import test_oracle as by

    torch.set_num_threads(THREADS)
    base, found, errors, peers = Base.default().path, {}, {}, {}
    for name, spec in by.SPECS.items():
        first, ours, config = by.by_the_bank(base, spec)
        found[name] = by.distance(ours, by.by_peft(base, first, config))
        exact = by.gradient_by_peft(base, ours, config, torch.float64)
        errors[name] = by.distance(by.gradient_by_the_bank(base, spec, ours), exact)
        peers[name] = by.distance(by.gradient_by_peft(base, ours, config), exact)
        say(
            f"{name}: {found[name]:.3g} from PEFT after {by.STEPS} steps (target: at most 1e-4); a gradient's error "
            f"{errors[name]:.2g}, PEFT's {peers[name]:.2g}"
        )
    return {
        "oracle_relative_difference": max(found.values()),
        "oracle_by_adapter": found,
        "oracle_gradient_error": max(errors.values()),
        "oracle_gradient_error_peft": max(peers.values()),
    }
