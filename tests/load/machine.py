"""On what a figure was taken, as every benchmark tells it.

The name alone does not say how fast a processor is at bf16: virtual machines of different processors have the same, and with
AMX an engine takes 0.6 of the time for a token.
"""

import platform
import re
from pathlib import Path

import psutil

from services.chassis.processor import processor

_CPUINFO = Path("/proc/cpuinfo")
_NAME = re.compile(r"^model name\s*:\s*(.*\S)", re.MULTILINE)
# What torch and the engine multiply bf16 with.
_OF_BF16 = ("avx512_bf16", "amx_bf16")


def hardware(cpuinfo: Path = _CPUINFO) -> str:
    """Processors and what they are; where the system has no name for them, as on ARM, what kind of machine it is."""
    try:
        name = _NAME.search(cpuinfo.read_text())
    except OSError:
        name = None
    instructions = processor(cpuinfo).instructions
    has = (f"{'with' if each in instructions else 'without'} {each}" for each in _OF_BF16)
    return f"{psutil.cpu_count()} x {name[1] if name else platform.machine()}, {', '.join(has)}"
