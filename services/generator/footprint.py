"""What memory an engine takes: estimated before it starts, measured while it runs.

The estimate decides whether an engine may start, so it errs upwards; what the processes
then take is shown beside it.  Pages that processes share (libraries, mapped weights) count
in each of them: the measured sum errs upwards too.
"""

from __future__ import annotations

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


def estimated_bytes(folder: Path, rules: BaseRules, slots: int, kv_cache_bytes: int) -> int:
    """Weights as the files have them, slots at the largest rank, KV cache, processes.  Blocks."""
    weights = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    per_rank = sum(out + inputs for out, inputs in rules.widths.values())
    adapters = slots * rules.max_rank * per_rank * _BYTES_PER_NUMBER * _COPIES
    return weights + adapters + kv_cache_bytes + PROCESS_BYTES


def resident_bytes(process_ids: Iterable[int]) -> int:
    """Resident memory of processes and their children; those that ended count nothing.  Blocks."""
    found: dict[int, psutil.Process] = {}
    for pid in process_ids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            found |= {each.pid: each for each in (process, *process.children(recursive=True))}
    total = 0
    for process in found.values():
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total
