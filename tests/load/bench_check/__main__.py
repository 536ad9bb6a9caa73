"""Whether a benchmark became worse: ``python -m tests.load.bench_check [--only NAME ...] [--store]``.

Runs a quick part of each benchmark (:mod:`tests.load.bench_check.benchmarks`), twenty minutes in all on two cores, and
compares its figures with those in ``docs/figures/bench_check.json``.  A machine's first run takes longer: it computes
vectors that later ones read.

The rule: a figure is worse where it is beyond the worst stored run by more than the largest of half of the stored spread,
10 % of the stored median (less for figures that hardly scatter), and the figure's least difference.  A benchmark with a
worse figure runs once more, and of each figure the better of both runs counts.  :mod:`tests.load.bench_check.comparison`
says it exactly.  The column "best before" has earlier figures: nothing is compared with them, and no store removes them.

``--store`` runs each benchmark three times and stores what it measured, with command, hardware and commit.  It refuses
while others use the processors.

An interrupted check goes on where it was when it is started again on the same code.  The last line is JSON.  The status is
1 where a figure is worse, else 2 where a benchmark failed or a figure is missing on either side, else 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from services.ops.cache import CHECKOUT, cache_dir
from tests.load.bench_check import stored
from tests.load.bench_check.benchmarks import BENCHMARKS
from tests.load.bench_check.check import Check, compare, status, store
from tests.load.bench_check.comparison import Comparison, Verdict
from tests.load.bench_check.progress import Progress, code
from tests.load.bench_check.stored import Stored
from tests.load.machine import hardware

# With fewer a spread says nothing.
_LEAST_RUNS = 3


def report(check: Check, found: Sequence[Comparison]) -> dict[str, Any]:
    """Print the table; return the facts of the last line."""
    known = stored.load(check.path)
    table = Table("benchmark", "figure", "stored", "its runs", "bound", "now", "verdict", "best before", box=None)
    for each in found:
        was = known.get(each.benchmark, Stored()).best(each.key)
        table.add_row(
            each.benchmark,
            each.key.name,
            _number(each.stored.median) if each.stored else "",
            f"{_number(each.stored.lowest)} to {_number(each.stored.highest)}" if each.stored else "",
            _number(each.bound),
            _number(each.now),
            each.verdict.value,
            f"{_number(was[0])} ({was[1]})" if was else "",
        )
    Console(width=150).print(table)
    named = {
        verdict: [f"{each.benchmark}.{each.key.name}" for each in found if each.verdict is verdict]
        for verdict in Verdict
    }
    return {
        "benchmark": "bench_check",
        "hardware": check.hardware,
        "load_average": round(os.getloadavg()[0], 2),
        "commit": check.commit,
        "figures": {f"{each.benchmark}.{each.key.name}": each.now for each in found},
        **{verdict.name.lower(): names for verdict, names in named.items() if verdict is not Verdict.OK},
        "failed": sorted(check.failed),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def main() -> int:
    """Check or store; print the table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--only", action="append", choices=names, help="one benchmark; can be given more than once")
    parser.add_argument(
        "--store", action="store_true", help="store the figures; the table then has what was stored before"
    )
    parser.add_argument("--runs", type=int, default=_LEAST_RUNS, help="of each benchmark that is stored, at least 3")
    parser.add_argument("--restart", action="store_true", help="forget what an interrupted check measured")
    asked = parser.parse_args()
    if asked.runs < _LEAST_RUNS:
        parser.error(f"--runs must be at least {_LEAST_RUNS}")
    commit = code(CHECKOUT)
    progress = Progress(cache_dir() / "bench-check" / commit)
    chosen = [benchmark for benchmark in BENCHMARKS if benchmark.name in (asked.only or names)]
    if asked.restart:
        for benchmark in chosen:
            progress.forget(benchmark.name)
    check = Check(chosen, progress, stored.PATH, hardware(), commit)
    found = store(check, asked.runs) if asked.store else compare(check)
    print(json.dumps(report(check, found)))
    # A store succeeds even if its figures are worse than the stored ones.
    return (2 if check.failed else 0) if asked.store else status(check, found)


if __name__ == "__main__":
    sys.exit(main())
