"""The processes that check datasets, as a test sees them."""

import asyncio
from collections.abc import Callable

import psutil

from tests.stack import eventually

_CHECKING = "services.trainer.data.checking_child"


def checks() -> list[psutil.Process]:
    """The children of this process that check datasets.

    Not a process that has loaded their module to fork trainers: it names the module too.
    """
    return [
        child
        for child in psutil.Process().children()
        if child.status() != psutil.STATUS_ZOMBIE and child.cmdline()[1:3] == ["-m", _CHECKING]
    ]


def reads(check: psutil.Process) -> bool:
    """Whether a check has begun to read: its limits are the last thing before that."""
    return bool(check.rlimit(psutil.RLIMIT_FSIZE) == (0, 0))


async def until_one(condition: Callable[[psutil.Process], bool] = lambda _: True) -> None:
    """Wait until there is a check for which `condition` holds."""
    await asyncio.to_thread(eventually, lambda: any(map(condition, checks())), "a check of a dataset runs")
