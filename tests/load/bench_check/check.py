"""The check itself: runs of each benchmark, resumed where it was interrupted, and what becomes of their figures."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.load.bench_check import stored
from tests.load.bench_check.benchmarks import Benchmark
from tests.load.bench_check.comparison import Comparison, Verdict, better_of, compared
from tests.load.bench_check.progress import Progress, Taken
from tests.load.bench_check.run import BenchmarkFailure, run
from tests.load.bench_check.stored import Record, Spread, Stored

# Of all processors: more than what a quiet machine itself uses.
QUIET_SHARE = 0.15
_BUSY_SECONDS = 3.0
# The servers of the benchmark before may still be ending.
_BUSY_TURNS = 10


def busy_share() -> float:
    """Return the share of all processors that is in use while nothing of ours runs; wait a little until it is small."""
    share = 1.0
    for _ in range(_BUSY_TURNS):
        share = min(share, psutil.cpu_percent(_BUSY_SECONDS) / 100)
        if share <= QUIET_SHARE:
            break
    return round(share, 3)


@dataclass(frozen=True, slots=True)
class Check:
    """The benchmarks, and what they are measured with; ``failed`` has the reason by benchmark."""

    benchmarks: Sequence[Benchmark]
    progress: Progress
    path: Path
    hardware: str
    commit: str
    busy: Callable[[], float] = busy_share
    failed: dict[str, str] = field(default_factory=dict)

    def take(self, benchmark: Benchmark, number: int, *, quiet: bool = False) -> Taken:
        """Return a run of the benchmark: the kept one, or a new one.

        Raises BenchmarkFailure, with ``quiet`` also where others use the processors.
        """
        kept = self.progress.find(benchmark.name, number)
        if kept and (kept.busy <= QUIET_SHARE or not quiet):
            _say(f"{benchmark.name}: run {number + 1} was measured before the check was interrupted")
            return kept
        busy = self.busy()
        if quiet and busy > QUIET_SHARE:
            raise BenchmarkFailure(f"others use {busy:.0%} of the processors")
        _say(
            f"{benchmark.name}: {benchmark.told} (about {benchmark.seconds} s; others use {busy:.0%} of the processors)"
        )
        begun = time.monotonic()
        taken = Taken(run(benchmark, self.progress.log(benchmark.name, number)), busy)
        _say(f"{benchmark.name}: {time.monotonic() - begun:.0f} s")
        self.progress.keep(benchmark.name, number, taken)
        return taken

    def fail(self, benchmark: Benchmark, failure: BenchmarkFailure) -> None:
        """Note and tell why a benchmark has no figures."""
        self.failed[benchmark.name] = str(failure)
        _say(f"{benchmark.name} failed: {failure}")

    def forget(self) -> None:
        """Forget the runs of this check, so that the next one measures anew; keep them where a benchmark failed."""
        if not self.failed:
            for benchmark in self.benchmarks:
                self.progress.forget(benchmark.name)


def compare(check: Check) -> list[Comparison]:
    """Run each benchmark, twice where a figure is worse, and compare it with what is stored."""
    known = stored.load(check.path)
    found: list[Comparison] = []
    for benchmark in check.benchmarks:
        record = known.get(benchmark.name, Stored()).record(check.hardware)
        figures: Mapping[str, float] = {}
        for number in range(2):
            try:
                taken = check.take(benchmark, number)
            except BenchmarkFailure as failure:
                check.fail(benchmark, failure)
                break
            figures = better_of(benchmark.keys, figures, taken.figures)
            if not is_worse(compared(benchmark, figures, record, check.hardware)):
                break
        found += compared(benchmark, figures, record, check.hardware)
    check.forget()
    return found


def store(check: Check, runs: int) -> list[Comparison]:
    """Run each benchmark so often, store its figures, and return how their medians compare with what was stored."""
    found: list[Comparison] = []
    for benchmark in check.benchmarks:
        try:
            taken = [check.take(benchmark, number, quiet=True) for number in range(runs)]
            record = _record(check, benchmark, taken)
        except BenchmarkFailure as failure:
            check.fail(benchmark, failure)
            continue
        # Read anew: another check may have stored something meanwhile.
        known = stored.load(check.path)
        before = known.get(benchmark.name, Stored())
        medians = {name: spread.median for name, spread in record.figures.items()}
        found += compared(benchmark, medians, before.record(check.hardware), check.hardware)
        stored.save(check.path, {**known, benchmark.name: before.with_record(record)})
        check.progress.forget(benchmark.name)
    return found


def is_worse(found: Sequence[Comparison]) -> bool:
    """Return whether a figure is worse."""
    return any(each.verdict is Verdict.WORSE for each in found)


def status(check: Check, found: Sequence[Comparison]) -> int:
    """Return the status of a check: 1 where a figure is worse, else 2 where one is missing, else 0."""
    if is_worse(found):
        return 1
    return 2 if check.failed or any(each.verdict is Verdict.MISSING for each in found) else 0


def _record(check: Check, benchmark: Benchmark, taken: Sequence[Taken]) -> Record:
    if absent := [key.name for key in benchmark.keys if any(key.name not in each.figures for each in taken)]:
        raise BenchmarkFailure(f"its last line lacks {', '.join(absent)}")
    figures = {key.name: Spread(tuple(each.figures[key.name] for each in taken)) for key in benchmark.keys}
    busy = tuple(each.busy for each in taken)
    return Record(benchmark.told, check.hardware, check.commit, busy, figures)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
