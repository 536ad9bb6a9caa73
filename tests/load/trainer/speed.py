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
_TRL_ROWS, _TRL_TOKENS = 8, 64


def curve(scale: float) -> Figures:
    """`joint_ratio_32`, `joint_ratio_128`, the curve, `naive_loop_ratio`, `joint_floor_ratio`."""
    rounds = scaled(_ROUNDS, scale, least=2)
    points = CURVE if scale >= 1 else tuple((tokens, scaled(jobs, scale, least=2)) for tokens, jobs in CURVE[:3])
    found: Figures = {"joint_curve": {}}
    for tokens, jobs in points:
        arguments = {"jobs": jobs, "tokens": tokens, "rounds": rounds, "naive": tokens == CURVE[0][0]}
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
    """`oracle_relative_difference`: 20 steps in fp32 on the bank and by plain PEFT, the largest of several adapters."""
    import torch

    from tests.load.trainer.workers import THREADS, Base
    from tests.unit.trainer.bank.test_oracle import SPECS, STEPS, by_peft, by_the_bank

    torch.set_num_threads(THREADS)
    base, found = Base.default().path, {}
    for name, spec in SPECS.items():
        first, ours, config = by_the_bank(base, spec)
        theirs = by_peft(base, first, config)
        assert ours.keys() == theirs.keys()
        away = sum(float((ours[key] - theirs[key]).double().square().sum()) for key in theirs) ** 0.5
        found[name] = away / sum(float(each.double().square().sum()) for each in theirs.values()) ** 0.5
        say(f"{name}: {found[name]:.2g} from PEFT after {STEPS} steps (target: at most 1e-4)")
    return {"oracle_relative_difference": max(found.values()), "oracle_by_adapter": found}
