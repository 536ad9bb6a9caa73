"""One run of a benchmark as a child process with a time limit."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from services.ops.cache import CHECKOUT
from tests import tied
from tests.load.bench_check.benchmarks import Benchmark

_END_SECONDS = 30
_TOLD_LINES = 15


class BenchmarkFailure(RuntimeError):
    """A benchmark did not end well, or its output does not end with its figures."""


def run(benchmark: Benchmark, log: Path) -> dict[str, float]:
    """Run the benchmark; return its figures by key.  Its output goes to ``log``, and what it tells people beside it.

    Raises BenchmarkFailure.  Call it from the main thread.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    progress = log.with_suffix(".progress")
    with log.open("wb") as output, progress.open("wb") as errors:
        # An interrupt, unlike a kill, lets a benchmark end the servers that it started.
        process = tied.start(
            benchmark.command, last=signal.SIGINT, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        try:
            status = process.wait(benchmark.limit_seconds)
        except subprocess.TimeoutExpired:
            raise BenchmarkFailure(f"it did not end within {benchmark.limit_seconds:g} s") from None
        finally:
            end(process)
    if status:
        raise BenchmarkFailure(f"it ended with status {status}:\n{_tail(progress)}")
    return figures(benchmark, log.read_text(errors="replace"))


def figures(benchmark: Benchmark, output: str) -> dict[str, float]:
    """Return the benchmark's figures from the last line of its output; what it does not have is left out.

    Raises BenchmarkFailure where that line is no JSON object.
    """
    found = _last_object(output)
    return {key.name: float(found[key.name]) for key in benchmark.keys if _is_number(found.get(key.name))}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, if it still runs, and everything below it."""
    if process.poll() is not None:
        return
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in below:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


def _last_object(output: str) -> Mapping[str, Any]:
    lines = output.strip().splitlines()
    last = lines[-1] if lines else ""
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BenchmarkFailure(f"its last line is no JSON object: {last[:200]!r}")
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-_TOLD_LINES:])
