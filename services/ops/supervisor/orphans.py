"""Adopts and ends what a dead service leaves behind.

A service that is killed cannot end the children of its children.  On Linux the
supervisor declares itself their reaper: whatever loses its parent becomes a child of
the supervisor, however it hid (own group, own session), and is ended here.
"""

import ctypes
import os
import sys
from collections.abc import Set as AbstractSet
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt() -> None:
    """Make this process the new parent of every descendant that loses its own.  Linux only; else nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def end(known: AbstractSet[int]) -> int:
    """Kill and reap the children of this process that are not `known`.  Returns how many there were.

    `known` are the process ids that somebody else waits for.
    """
    strangers = [child for child in psutil.Process().children() if child.pid not in known]
    for stranger in strangers:
        with suppress(psutil.Error):
            stranger.kill()
        with suppress(ChildProcessError):
            os.waitpid(stranger.pid, 0)
    return len(strangers)
