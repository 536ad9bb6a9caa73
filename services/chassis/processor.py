"""What of the processor the bits of a result depend on: who made it, and its instructions for vectors.

Libraries (torch, oneDNN, MKL) and code of ours choose by these how they add up, when they are loaded.
Invariant: two machines of which this says the same choose alike.
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# As Linux calls them, on x86-64 and on ARM.
_VENDOR = re.compile(r"^(?:vendor_id|CPU implementer)\s*:\s*(\S+)", re.MULTILINE)
_FLAGS = re.compile(r"^(?:flags|Features)\s*:\s*(.*)$", re.MULTILINE)
_OF_VECTORS = re.compile(r"(?:avx|amx|fma|f16c|asimd|sve|sme|bf16|i8mm)\w*")


@dataclass(frozen=True, slots=True)
class Processor:
    """Its vendor, and the instructions that it has for vectors and matrices, by Linux's names."""

    vendor: str
    instructions: frozenset[str]


def processor(cpuinfo: Path = _CPUINFO) -> Processor:
    """The one of this machine; where the system does not tell, what kind of machine it is and no instructions."""
    try:
        told = cpuinfo.read_text()
    except OSError:
        told = ""
    vendor, flags = _VENDOR.search(told), _FLAGS.search(told)
    words = flags[1].split() if flags else []
    return Processor(vendor[1] if vendor else platform.machine(), frozenset(filter(_OF_VECTORS.fullmatch, words)))
