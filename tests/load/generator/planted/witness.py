"""Our plugin as it is, and a count of the requests that the scheduler preempts."""

from __future__ import annotations

import functools
import multiprocessing
import os
from pathlib import Path
from typing import Any

from services.generator import plugin
from tests.load.generator.planted import PREEMPTIONS_FILE


def register() -> None:
    """Entry point of the plugin."""
    plugin.register()
    if multiprocessing.parent_process() is None:
        return
    from vllm.v1.core.sched.scheduler import Scheduler

    original, count = Scheduler._preempt_request, Path(os.environ[PREEMPTIONS_FILE])

    @functools.wraps(original)
    def preempt(self: Any, *args: Any, **kwargs: Any) -> Any:
        with count.open("ab") as file:
            file.write(b".")
        return original(self, *args, **kwargs)

    Scheduler._preempt_request = preempt
