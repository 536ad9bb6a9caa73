"""How many files the process may have open, each connection one of them: without any left no peer can be reached either."""

import resource
from contextlib import suppress


def raised() -> int | None:
    """How many may be open once the process has taken what it may have; None for any number.

    The usual soft limit is for programs that wait by select(), which nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Some systems name a limit that they do not grant.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return None if soft == resource.RLIM_INFINITY else soft


def for_connections(wanted: int) -> int:
    """As many connections as are wanted, or as half of the files that may be open: the others are for whom they ask for."""
    files = raised()
    return wanted if files is None else max(1, min(wanted, files // 2))
