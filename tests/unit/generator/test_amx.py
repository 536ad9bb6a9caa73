"""An engine's process may use the processor's tiles before any product has asked for them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# ARCH_GET_XCOMP_PERM of arch_prctl(2), and the bit of the tiles' data.
_ASKED = """
import ctypes, platform
from services.generator.plugin import amx
def granted():
    if platform.machine() != "x86_64":
        return False
    found = ctypes.c_uint64()
    ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(found))
    return bool(found.value >> 18 & 1)
before = granted()
amx.install()
print(before, granted())
"""


def test_the_tiles_are_asked_for_where_the_processor_has_them() -> None:
    done = subprocess.run([sys.executable, "-c", _ASKED], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["False", str("amx_tile" in Path("/proc/cpuinfo").read_text())]
