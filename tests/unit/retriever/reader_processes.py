"""The processes that read documents for this one."""

import os
from contextlib import suppress

import psutil

# What only their programs begin with: other tests' children serve as well, and one that is killed is missed by all later.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from "


def readers() -> list[psutil.Process]:
    """Those that live.  Other tests' children may be there as well, also some that ended and nobody waited for."""
    found = []
    for child in psutil.Process(os.getpid()).children():
        with suppress(psutil.Error):
            if any(it.startswith(_PROGRAM) for it in child.cmdline()):
                found.append(child)
    return found
