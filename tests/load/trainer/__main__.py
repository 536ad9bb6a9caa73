"""How fast the trainer is, and whether what it promises holds: ``python -m tests.load.trainer [--part NAME ...]``.

Parts can be named; all of them take an hour to an hour and a half on two quiet cores.  Each runs in a process of its own
and tells on standard error how it goes; the last line of the output is JSON with every figure.  ``--scale`` makes all
of it smaller: what it then prints shows that it works, and no more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time

from tests import tied
from tests.load.machine import hardware
from tests.load.trainer.parts import Figures, rounded, say
from tests.load.trainer.threading_ways import SLEEPING, environment
from tests.load.trainer.workers import THREADS

# By name, the module and the function that takes the scale and returns figures; imported where it runs.
PARTS = {
    "exactness": ("exactness", "figures"),
    "resume": ("resume", "figures"),
    "curve": ("speed", "curve"),
    "trl": ("speed", "trl"),
    "oracle": ("speed", "oracle"),
    "jobs200": ("jobs200", "figures"),
    "coserve": ("coserve", "figures"),
    "fairness": ("fairness", "figures"),
}


def main() -> int:
    """Run the parts, end with one line of JSON; the status says whether all of them ran to their end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS, help="can be given more than once; all without it")
    parser.add_argument("--scale", type=float, default=1.0, help="how much of the full size, up to 1")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.here:
        module, function = PARTS[asked.part[0]]
        found = getattr(importlib.import_module(f"tests.load.trainer.{module}"), function)(asked.scale)
        print(json.dumps(rounded(found)))
        return 0
    outcome: Figures = {}
    times: dict[str, Figures] = {}
    failed = []
    for name in asked.part or PARTS:
        say(f"--- {name}")
        figures, times[name] = apart(name, asked.scale)
        say(f"--- {name}: {times[name]['wall_seconds']:.0f} s, {times[name]['cpu_seconds']:.0f} s of processors")
        if figures is None:
            failed.append(name)
        outcome |= figures or {}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    about = {
        "scale": asked.scale,
        "threads": THREADS,
        "hardware": hardware(),
        "load_average": round(os.getloadavg()[0], 2),
        "commit": head.stdout.strip(),
    }
    print(json.dumps({"benchmark": "trainer", **about, **outcome, "times": rounded(times), "failed_parts": failed}))
    return 1 if failed else 0


def apart(name: str, scale: float) -> tuple[Figures | None, Figures]:
    """A part's figures from a process of its own, None when it failed; and its seconds, its descendants' included."""
    begun, used = time.monotonic(), _children_seconds()
    process = tied.start(
        [sys.executable, "-m", "tests.load.trainer", "--here", "--part", name, "--scale", str(scale)],
        stdout=subprocess.PIPE,
        text=True,
        # As the trainer sets its own processes up.
        env=environment(SLEEPING),
    )
    output, _ = process.communicate()
    figures: Figures | None = json.loads(output.splitlines()[-1]) if process.returncode == 0 else None
    spent = {"wall_seconds": time.monotonic() - begun, "cpu_seconds": _children_seconds() - used}
    return figures, spent


def _children_seconds() -> float:
    """Processor seconds of all descendants that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
