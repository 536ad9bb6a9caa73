"""The processes that read documents for this one."""

import os
from contextlib import suppress

import psutil


def readers() -> list[psutil.Process]:
    """Those that live.  Other tests' children may be there as well, also some that ended and nobody waited for."""
    found = []
    for child in psutil.Process(os.getpid()).children():
        with suppress(psutil.Error):
            if "import serve" in " ".join(child.cmdline()):
                found.append(child)
    return found
