"""The process that reads one dataset: `python -m services.trainer.data.checking_child BASE_FOLDER ORDER <DATASET`.

It says a line when it is ready, takes its limits, answers with one line of JSON and ends.
Invariant: nothing of the dataset is read before the limits hold.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from services.trainer.data import checking, rows
from services.trainer.data.examples import ChatEncoder, Encoder

# Exit status when Python itself was refused more memory.
OUT_OF_MEMORY = 71


def answer(file: BinaryIO, encoder: Encoder, order: dict[str, Any]) -> dict[str, object]:
    """Do what `checker.Checker` orders; the answer is JSON."""
    if "max_row_tokens" in order:
        return {"problems": [asdict(found) for found in checking.warnings(file, encoder, order["max_row_tokens"])]}
    expected = rows.Format(order["expected"]) if order["expected"] else None
    return asdict(checking.check(file, encoder, expected))


def confine(cpu_seconds: float, memory_bytes: int) -> None:
    """Bound what this process takes from now on; let it write no file and dump no core.

    The limits end it by themselves, also in the middle of native code: SIGPROF for time, a refused allocation
    for memory.
    """
    held_bytes = _data_bytes()
    for limit, value in (
        (resource.RLIMIT_DATA, held_bytes + memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)


def _data_bytes() -> int:
    """What already counts against RLIMIT_DATA."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmData:"))
    return int(line.split()[1]) * 1024


def main(base_folder: Path, order: dict[str, Any]) -> int:
    """Answer; return the exit code."""
    # Libraries print to standard output; our lines keep a descriptor of their own.
    lines = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    # Counting tokens needs no torch, whose import takes seconds and most of a gigabyte: here it counts as not installed.
    sys.modules["torch"] = None  # type: ignore[assignment]  # the typing of sys.modules leaves out this use of it
    encoder = ChatEncoder.load(base_folder)
    lines.write(b"ready\n")
    confine(order["cpu_seconds"], order["memory_bytes"])
    try:
        said = json.dumps(answer(sys.stdin.buffer, encoder, order)).encode() + b"\n"
    except MemoryError:
        return OUT_OF_MEMORY
    while said:
        said = said[lines.write(said) :]
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
