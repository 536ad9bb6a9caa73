"""What memory an engine takes: estimated before it starts, measured while it runs.

The estimate decides whether an engine may start, so it errs upwards; what the processes
then take is shown beside it.  Pages that processes share (libraries, mapped weights) count
in each of them: the measured sum errs upwards too.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from services.generator.verification import BaseRules

# An engine core and its worker with all that vLLM imports, before they load anything: resident as measured with the CPU
# build, what both have mapped counted twice.
PROCESS_BYTES = 1900 << 20
_BYTES_PER_NUMBER = 2
# A slot's A lies once and its B twice: as vLLM has it and as the native product reads it.
_COPIES = 2
_LOOK_SECONDS = 0.02


def estimated_bytes(folder: Path, rules: BaseRules, slots: int, kv_cache_bytes: int) -> int:
    """Weights as the files have them, slots at the largest rank, KV cache, processes.  Blocks."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    per_rank = sum(out + inputs for out, inputs in rules.widths.values())
    adapters = slots * rules.max_rank * per_rank * _BYTES_PER_NUMBER * _COPIES
    return weights + adapters + kv_cache_bytes + PROCESS_BYTES


def resident_bytes(process_ids: Iterable[int]) -> int:
    """Resident memory of processes and their children; those that ended count nothing.  Blocks."""
    total = 0
    for process in processes_of(process_ids):
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def processes_of(process_ids: Iterable[int]) -> list[psutil.Process]:
    """The processes that live, and those below them.  Blocks."""
    found: dict[int, psutil.Process] = {}
    for pid in process_ids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    return list(found.values())


def wait_until_gone(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Return once they take no memory any more, killing those that still do after a while.  Blocks."""
    end = time.monotonic() + seconds
    left = [process for process in processes if _takes_memory(process)]
    while left:
        if time.monotonic() > end:
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            return
        time.sleep(_LOOK_SECONDS)
        left = [process for process in left if _takes_memory(process)]


def _takes_memory(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
