"""Serving and training on the same cores: what each loses beside the other.

The generator answers requests that arrive at random at 30 % of its capacity, in the sense in which a queue has one: the
requests a second that it answers one after another, so that alone it is busy for 30 % of the time.  In batches it could
answer more: `coserve_load_of_batched_capacity` says what part of that is asked for.  Beside it a queue of jobs trains
that never empties.  Three conditions take turns: serving alone (the jobs are paused), both, training alone (nothing is
asked; the generator stays up).
"""

from __future__ import annotations

import random
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from trivium.trainer.v1 import training_pb2

from tests.generating import QUESTIONS, Caller, Served, tenant_of
from tests.load.percentile import percentile
from tests.load.scaled import scaled
from tests.load.trainer.parts import Figures, say
from tests.load.trainer.service import Tenant, beside, plain_settings, texts
from tests.stack import eventually

LOAD = 0.3
_JOBS = 6
_ROWS, _ROW_TOKENS, _RATE = 4, 64, 1e-4
_ANSWER_TOKENS = 48
_ENDLESS = 20_000
_ASKED_ALONE = 12
_AT_ONCE = 16
# Of the open stream: more than ever run, so that arrivals wait for nobody.
_MOST_AT_ONCE = 64
_WINDOW_SECONDS = 60.0
_ROUNDS = 2
_PATIENCE_SECONDS = 600.0


@dataclass(slots=True)
class Condition:
    """What was seen under one condition: gaps between tokens, seconds to first tokens, tokens trained a second."""

    gaps: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    speeds: list[float] = field(default_factory=list)


def figures(scale: float) -> Figures:
    """Measure the capacity, then the three conditions in turn."""
    window = max(8.0, _WINDOW_SECONDS * scale)
    alone, both, training = Condition(), Condition(), Condition()
    with tempfile.TemporaryDirectory(prefix="trivium-coserve-") as folder:
        served = Served(Path(folder)).start()
        try:
            with beside(served.stack) as trainer:
                tenant = trainer.tenant()
                generator = tenant_of(served, tenant.name, tenant.credential).generator
                service_seconds, batched = capacity(
                    generator, scaled(_ASKED_ALONE, scale, least=3), scaled(_AT_ONCE, scale, least=4)
                )
                pace = service_seconds / LOAD
                begin(tenant, scaled(_JOBS, scale, least=2))
                for number in range(scaled(_ROUNDS, scale)):
                    hold(tenant)
                    serve(generator, pace, window, alone, seed=number)
                    release(tenant)
                    before, since = tenant.trained_tokens(), time.monotonic()
                    serve(generator, pace, window, both, seed=number)
                    both.speeds.append((tenant.trained_tokens() - before) / (time.monotonic() - since))
                    before, since = tenant.trained_tokens(), time.monotonic()
                    threading.Event().wait(window)
                    training.speeds.append((tenant.trained_tokens() - before) / (time.monotonic() - since))
                    say(f"trained {training.speeds[-1]:.0f} tokens/s alone, {both.speeds[-1]:.0f} beside serving")
        finally:
            served.close()
    return told(alone, both, training) | {
        "coserve_requests_per_second": 1 / pace,
        "coserve_load_of_batched_capacity": _ANSWER_TOKENS / pace / batched,
    }


def told(alone: Condition, both: Condition, training: Condition) -> Figures:
    """The figures, and what they mean for people."""
    gaps = [percentile(condition.gaps, 0.99) for condition in (alone, both)]
    speeds = [statistics.mean(condition.speeds) for condition in (training, both)]
    found: Figures = {
        "coserve_token_gap_ratio": gaps[1] / gaps[0],
        "coserve_training_ratio": speeds[1] / speeds[0],
        "coserve_gap_ms": 1e3 * gaps[1],
        "coserve_alone_gap_ms": 1e3 * gaps[0],
        "coserve_median_gap_ms": [1e3 * statistics.median(condition.gaps) for condition in (alone, both)],
        "coserve_first_token_ms": [1e3 * statistics.median(condition.firsts) for condition in (alone, both)],
        "coserve_trained_tokens_per_second": speeds[1],
    }
    say(
        f"p99 gap between tokens {1e3 * gaps[0]:.0f} ms alone, {1e3 * gaps[1]:.0f} ms beside training: "
        f"{found['coserve_token_gap_ratio']:.2f} (target: at most 1.5), {len(both.gaps)} gaps; training keeps "
        f"{found['coserve_training_ratio']:.2f} of its speed (target: at least 0.5)"
    )
    return found


def capacity(generator: Caller, asked: int, at_once: int) -> tuple[float, float]:
    """Seconds of one answer when they come one after another, and tokens a second of many at once."""
    for _ in range(2):
        _answer(generator, 0, Condition())
    took = []
    for number in range(asked):
        begun = time.perf_counter()
        _answer(generator, number, Condition())
        took.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda number: _answer(generator, number, Condition()), range(at_once)))
    batched = at_once * _ANSWER_TOKENS / (time.perf_counter() - begun)
    say(f"an answer of {_ANSWER_TOKENS} tokens takes {statistics.median(took):.2f} s; {batched:.0f} tokens/s at once")
    return statistics.median(took), batched


def begin(tenant: Tenant, jobs: int) -> None:
    """Queue jobs that do not end by themselves, and wait until they train."""
    dataset = tenant.upload(texts(64, 400))
    for number in range(jobs):
        settings = plain_settings(_ROWS, _ROW_TOKENS, steps=_ENDLESS, seed=number, learning_rate=_RATE)
        tenant.order(f"m{number}", dataset, settings)
    _until_training(tenant)


def hold(tenant: Tenant) -> None:
    """Pause all jobs."""
    for job in tenant.jobs():
        tenant.training.PauseJob(training_pb2.PauseJobRequest(job=job.job))
    paused = {training_pb2.JOB_STATE_PAUSED}
    eventually(lambda: set(tenant.states()) == paused, "all jobs are paused", _PATIENCE_SECONDS)


def release(tenant: Tenant) -> None:
    """Let them go on, and wait until they do."""
    for job in tenant.jobs():
        tenant.training.ResumeJob(training_pb2.ResumeJobRequest(job=job.job))
    _until_training(tenant)


def _until_training(tenant: Tenant) -> None:
    running = {training_pb2.JOB_STATE_RUNNING}
    eventually(lambda: set(tenant.states()) == running, "all jobs run", _PATIENCE_SECONDS)
    before = tenant.trained_tokens()
    eventually(lambda: tenant.trained_tokens() > before, "the jobs take steps", _PATIENCE_SECONDS)


def serve(generator: Caller, pace_seconds: float, window_seconds: float, into: Condition, *, seed: int) -> None:
    """Ask at random moments, one in `pace_seconds` on average, for as long as the window; wait for the answers."""
    draw, begun, number = random.Random(seed), time.monotonic(), 0
    due = 0.0
    pause = threading.Event()
    with ThreadPoolExecutor(_MOST_AT_ONCE) as pool:
        asked = []
        while due < window_seconds:
            pause.wait(max(0.0, begun + due - time.monotonic()))
            asked.append(pool.submit(_answer, generator, number, into))
            number += 1
            due += draw.expovariate(1 / pace_seconds)
        pause.wait(max(0.0, begun + window_seconds - time.monotonic()))
        for one in asked:
            one.result()


def _answer(generator: Caller, number: int, into: Condition) -> None:
    """Ask once; note the seconds to the first token and between the others."""
    last, first = time.perf_counter(), True
    call = generator.start(
        f"{QUESTIONS[number % len(QUESTIONS)]} ({number})", max_tokens=_ANSWER_TOKENS, sampling={"ignore_eos": True}
    )
    for response in call:
        if response.WhichOneof("part") != "delta":
            continue
        now = time.perf_counter()
        (into.firsts if first else into.gaps).append(now - last)
        last, first = now, False
