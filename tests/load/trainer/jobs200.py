"""Two hundred jobs at once through the service: memory, what of the time trains, and when each of them ends.

They are mixed in rows, lengths, steps, rates and seeds, all of rank 8 on all linear layers, and are ordered as fast as
the service takes them.  The base is resident, since a first job has ended just before.  What they are measured by is
taken before and after in the same run: the best joint step of such jobs (`goodput_200`), and one job after another,
shortest first (`mean_completion_ratio`).
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from trivium.trainer.v1 import training_pb2

from tests.load.scaled import scaled
from tests.load.trainer.parts import Figures, say
from tests.load.trainer.service import FINISHED, TRAINED, Tenant, Trainer, deployed, plain_settings, texts
from tests.load.trainer.threading_ways import SLEEPING, measured, ways_at

_JOBS = 200
_RATE = 1e-4
# Rows of a step and tokens of a row, in turn.
SHAPES = ((1, 32), (2, 32), (2, 64), (4, 64))
# Tokens of a job: drawn evenly between these, so that the longest has ten times the shortest's.
_LEAST_TOKENS, _MOST_TOKENS = 256, 2560
# Jobs in a joint step that is measured by itself.
_GROUPS = (8, 16, 32)
# Not more often: who looks takes of the same cores, and so does the trainer that answers.
_LOOK_SECONDS = 10.0
_PEAK_SECONDS = 2.0
_LIMIT_SECONDS = 2400.0
_TOLD_EVERY = 20
# What the scheduler may give to jobs and base; the figure is what they then take.
_MEMORY_BYTES = 12 << 30
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Planned:
    """One job: its shape's place in SHAPES, and its steps."""

    shape: int
    steps: int

    def supervised_tokens(self, trained_tokens: int) -> int:
        """Of the tokens that went through the model all but the first of each row."""
        return trained_tokens - self.steps * SHAPES[self.shape][0]


@dataclass(frozen=True, slots=True)
class Run:
    """What came of the jobs.  Seconds count from the first order; `one_bytes` are a single job's process's own."""

    completions: list[float]
    trained_seconds: float
    compute_seconds: float
    peak_bytes: int
    one_bytes: int
    most_resident: int
    supervised_tokens: int


def planned(count: int) -> list[Planned]:
    """So many jobs, shapes and lengths mixed."""
    found = []
    for number in range(count):
        shape = number % len(SHAPES)
        rows, tokens = SHAPES[shape]
        wanted = _LEAST_TOKENS + (number * 37 % count) * (_MOST_TOKENS - _LEAST_TOKENS) // count
        found.append(Planned(shape, max(1, wanted // (rows * tokens))))
    return found


def figures(scale: float) -> Figures:
    """Measure what they are compared with, run them, measure again."""
    jobs = planned(scaled(_JOBS, scale, least=8))
    sizes = {"shapes": SHAPES, "groups": _GROUPS if scale >= 1 else (4, 8), "rounds": scaled(3, scale)}
    before = measured(SLEEPING, "mixed", **sizes)
    say(
        f"best joint step {before['joint_tokens_per_second']:.0f} supervised tokens/s, of {before['joint_members']} jobs"
    )
    with tempfile.TemporaryDirectory(prefix="trivium-jobs-") as folder:
        environment = {"TRIVIUM_TRAINER_MEMORY_BYTES": str(_MEMORY_BYTES)}
        with deployed(Path(folder), environment) as trainer:
            run = through_the_service(trainer, jobs)
    after = [measured(way, "mixed", **sizes) for way in ways_at(scale)]
    return compared(jobs, run, [before, *after])


def compared(jobs: Sequence[Planned], run: Run, rates: Sequence[Figures]) -> Figures:
    """The figures.  Of the rates the best of ours and the best of the sequential loop count."""
    best = max(rate["joint_tokens_per_second"] for rate in rates)
    median = max(rate["joint_median_tokens_per_second"] for rate in rates)
    seconds = [min(rate["sequential_seconds"][shape] for rate in rates) for shape in range(len(SHAPES))]
    alone = sorted(job.steps * seconds[job.shape] for job in jobs)
    one_after_another = statistics.mean(accumulate(alone))
    all_done = len(run.completions) == len(jobs)
    speed = run.supervised_tokens / run.trained_seconds
    found: Figures = {
        "jobs_200_peak_gib": run.peak_bytes / _GIB,
        "jobs_200_finished": len(run.completions),
        "jobs_200_resident_at_once": run.most_resident,
        "single_process_gib": run.one_bytes * len(jobs) / _GIB,
        "utilisation_200": run.compute_seconds / run.trained_seconds,
        # Of the fastest step that was seen; a mean over many minutes is also held to the median of the same steps.
        "goodput_200": speed / best,
        "goodput_200_of_median": speed / median,
        # Of the jobs that do not finish, the last ones to, nothing is left out.
        "mean_completion_ratio": statistics.mean(run.completions) / one_after_another if all_done else None,
        "jobs_200_seconds": run.trained_seconds,
        "jobs_200_mean_completion_seconds": statistics.mean(run.completions) if run.completions else None,
        "sequential_mean_completion_seconds": one_after_another,
        "sequential_seconds": sum(alone),
        "jobs_200_supervised_tokens_per_second": speed,
        "best_joint_tokens_per_second": best,
    }
    targets = {
        "jobs_200_peak_gib": "at most 12",
        "jobs_200_finished": str(len(jobs)),
        "utilisation_200": "at least 0.85",
        "goodput_200": "at least 0.85",
        "mean_completion_ratio": "at most 0.6",
        "single_process_gib": "none",
    }
    for key, target in targets.items():
        say(f"{key}: {found[key]} (target: {target})")
    return found


def through_the_service(trainer: Trainer, jobs: Sequence[Planned]) -> Run:
    """Warm the base with one job, then order all and wait for their ends."""
    tenant = trainer.tenant()
    dataset = tenant.upload(texts(64, 400))
    with _peak(trainer.training_bytes) as alone:
        first = tenant.order("warm", dataset, plain_settings(*SHAPES[0], steps=8, learning_rate=_RATE))
        _wait(tenant, {first})
    say(f"one job alone: {alone[0] / _GIB:.2f} GiB of its own process")
    computed = sum(trainer.compute_seconds().values())
    begun = time.time()
    with _peak(trainer.peak_bytes) as peak:
        names = [
            tenant.order(
                f"m{number}",
                dataset,
                plain_settings(
                    *SHAPES[job.shape], steps=job.steps, seed=number, learning_rate=_RATE * (1 + number % 9)
                ),
            )
            for number, job in enumerate(jobs)
        ]
        say(f"ordered {len(names)} jobs in {time.time() - begun:.1f} s")
        _wait(tenant, set(names))
    found = {job.job: job for job in tenant.jobs()}
    done = {name for name in names if found[name].state == training_pb2.JOB_STATE_SUCCEEDED}
    for name in set(names) - done:
        say(f"{name}: {training_pb2.JobState.Name(found[name].state)} {found[name].error.message}")
    times = [_times(tenant, name) for name in names]
    trained = max(last for _, last in times)
    return Run(
        completions=[found[name].end_time.ToNanoseconds() / 1e9 - begun for name in done],
        trained_seconds=trained - begun,
        compute_seconds=sum(trainer.compute_seconds().values()) - computed,
        peak_bytes=peak[0],
        one_bytes=alone[0],
        most_resident=most_at_once(times),
        supervised_tokens=sum(
            job.supervised_tokens(found[name].trained_tokens)
            for name, job in zip(names, jobs, strict=True)
            if name in done
        ),
    )


def _wait(tenant: Tenant, names: set[str]) -> None:
    """Wait until all have ended."""
    deadline, told = time.monotonic() + _LIMIT_SECONDS, 0
    pause = threading.Event()
    while True:
        jobs = [job for job in tenant.jobs() if job.job in names]
        ended = sum(job.state in FINISHED for job in jobs)
        if ended >= told + _TOLD_EVERY:
            told = ended
            say(f"{ended} of {len(names)} jobs have ended")
        if ended == len(names):
            return
        assert time.monotonic() < deadline, f"{ended} of {len(names)} jobs ended in {_LIMIT_SECONDS:.0f} s"
        pause.wait(_LOOK_SECONDS)


def most_at_once(times: Iterable[tuple[float, float]]) -> int:
    """How many of these spans, from the first time to the last, have a moment in common at most."""
    changes = sorted(change for first, last in times for change in ((first, 1), (last, -1)))
    return max(accumulate(change for _, change in changes), default=0)


def _times(tenant: Tenant, job: str) -> tuple[float, float]:
    """When a job that has ended was on the bank, in Unix seconds: from what was said of its rows to its result on disk."""
    joined = 0.0
    for answer in tenant.training.WatchJob(training_pb2.WatchJobRequest(job=job)):
        event, at = answer.event, answer.event.create_time.ToNanoseconds() / 1e9
        if not joined and event.kind == training_pb2.JOB_EVENT_KIND_MESSAGE:
            joined = at
        if event.state in TRAINED:
            return joined or at, at
    raise AssertionError(f"{job} has no event of its end")


@contextmanager
def _peak(size_bytes: Callable[[], int]) -> Iterator[list[int]]:
    """The largest size that was seen inside the block, looked at every so often."""
    found, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(_PEAK_SECONDS):
            found[0] = max(found[0], size_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
