"""Ends a child of the engine with the generator, before the child waits for anything.

vLLM's plugins arm the same signal, but an engine core loads them only after its parent
has answered it: killed before, the generator would leave a core that waits for minutes.
So the configuration that is sent to every child carries an object whose unpickling,
the first thing that a child does, arms the signal.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from services.chassis.processes import die_with_parent

GENERATOR_PID = "TRIVIUM_GENERATOR_PID"
_PLUGIN = Path(__file__).parent / "plugin"


class Lifeline:
    """Travels in vLLM's ``additional_config``; means nothing for what the engine computes."""

    def compute_hash(self) -> str:
        """Part of the keys of vLLM's caches: a graph that was compiled around other lines of the plugin is not ours."""
        lines = [path.read_bytes() for path in sorted(_PLUGIN.glob("*.py"))]
        return hashlib.sha256(b"".join(lines)).hexdigest()

    def __reduce__(self) -> tuple[Callable[[], Lifeline], tuple[()]]:
        return join_generator, ()


def join_generator() -> Lifeline:
    """Die with the parent; at once when the generator is already gone and nobody will signal."""
    if str(os.getpid()) != os.environ[GENERATOR_PID]:
        die_with_parent()
        try:
            os.kill(int(os.environ[GENERATOR_PID]), 0)
        except ProcessLookupError:
            os._exit(1)
    return Lifeline()
