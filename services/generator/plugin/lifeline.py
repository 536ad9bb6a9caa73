"""Ends a child of the engine when its parent is gone, however the parent went.

vLLM leaves its engine core and workers behind when the serving process is killed.
Each child therefore asks the kernel for a SIGKILL on its parent's death.  The signal
follows the *thread* that started the child, so whoever builds an engine must do it on
a thread that lives as long as the engine (``engine_vllm`` keeps one).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent() -> None:
    """Arm the parent-death signal in a child that multiprocessing started.

    Does nothing in the serving process itself and on systems without prctl.  A parent
    that died before the signal was armed ends the child at once.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent.pid:
        os._exit(1)
