"""Keeps CPython's garbage collector from holding a service up, and measures how long it does.

A full collection visits every object that can hold another: at rest 130,000 in the gateway and
780,000 beside vLLM, nearly all of them modules, classes and descriptors that live as long as the
process.  Under load that takes 0.1 to 0.8 s, in which nobody is answered.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from services.chassis.telemetry import Telemetry


def set_apart() -> int:
    """Collect what a start left behind, and spare later collections what remains; returns how many objects that is.

    Blocks, 0.4 s beside vLLM.  For what stays for the life of the process: a cycle that is set
    apart is never freed.
    """
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()


@contextmanager
def pauses_observed(telemetry: Telemetry) -> Iterator[None]:
    """Count each collection's duration, in which nothing else of Python runs, while the block runs."""
    durations = telemetry.histogram(
        "trivium_garbage_pause_seconds", "For how long garbage collection held the process up.", ("generation",)
    )
    of_generation = [durations.labels(str(generation)) for generation in range(len(gc.get_threshold()))]
    begun = time.perf_counter()

    def on_collection(phase: str, facts: dict[str, Any]) -> None:
        nonlocal begun
        if phase == "start":
            begun = time.perf_counter()
        else:
            of_generation[facts["generation"]].observe(time.perf_counter() - begun)

    gc.callbacks.append(on_collection)
    try:
        yield
    finally:
        gc.callbacks.remove(on_collection)
