"""How fast a job would train where none of its kind has yet, roughly: what the machine does over what a token costs.

Invariants: it is arithmetic, stands aside for anything that was measured, and is told as what it is; and a machine that
could not be measured has no speed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping

from services.chassis import resources
from services.chassis.processes import spawn
from services.trainer.needs import Architecture, adapter_parameters
from services.trainer.settings import Method, Settings

# Operations a second by dtype, in products with a weight of [inputs, outputs].
Measure = Callable[[int, int], Awaitable[Mapping[str, float]]]

# A multiplication and an addition for each weight.
_OPERATIONS = 2
# What training reaches of the speed of bare products; the rest goes to attention, norms, the loss and the optimizer.
# Measured with SmolLM2-135M on two cores of an AMD EPYC: 0.4 to 0.55 in joint steps of 8 to 32 jobs.
_REACHED = 0.4
# Products of wider weights are no faster, and take memory.
_WIDEST = 4096
# To load torch takes two, on a busy machine several times that; whoever asks waits meanwhile.
_PATIENCE_SECONDS = 20.0


def token_operations(base: Architecture, settings: Settings) -> int:
    """Operations that a trained token costs in products: forward, and backward through whatever has a gradient."""
    weights = base.layers * sum(inputs * outputs for inputs, outputs in base.linears.values())
    # The embedding is looked up; the head, which may be the same matrix, is multiplied by.
    weights += base.vocabulary * base.hidden_size
    # Forward and to the activations; where all is trained also to the weights; what is not kept is computed again.
    passes = 2 + (settings.method is Method.FULL) + settings.gradient_checkpointing
    adapters = 3 * adapter_parameters(base, settings) if settings.method.makes_adapter else 0
    return _OPERATIONS * (passes * weights + adapters)


class Rough:
    """Guesses speeds; the machine is measured when it is first asked for, and then for each shape of a base once."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._known: dict[tuple[int, int], Mapping[str, float]] = {}
        self._turn = asyncio.Lock()

    async def tokens_per_second(self, base: Architecture, settings: Settings) -> float:
        """Of a job that has the machine for itself; 0 where the machine could not be measured."""
        shape = min(base.hidden_size, _WIDEST), min(base.intermediate_size, _WIDEST)
        async with self._turn:
            # What failed is tried again.
            if not self._known.get(shape):
                self._known[shape] = await self._measure(*shape)
        dtype = "float32" if settings.method is Method.FULL else "bfloat16"
        return _REACHED * self._known[shape].get(dtype, 0.0) / token_operations(base, settings)


def measure_with(threads: int, patience_seconds: float = _PATIENCE_SECONDS) -> Measure:
    """Measures this machine with as many threads as a job has, in a process of its own, which ends then."""

    async def measured(inputs: int, outputs: int) -> Mapping[str, float]:
        share = resources.shares()[resources.Role.TRAINER]
        child = await spawn(
            [sys.executable, "-m", "services.trainer.products_child", str(inputs), str(outputs)],
            env=os.environ | share.environment() | {"OMP_NUM_THREADS": str(threads)},
            guarded=False,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.process.stdout is not None
        try:
            async with asyncio.timeout(patience_seconds):
                said = await child.process.stdout.read()
                status = await child.wait()
        except TimeoutError:
            return {}
        finally:
            if child.process.returncode is None:
                await asyncio.shield(child.kill())
        return {} if status else {str(dtype): float(speed) for dtype, speed in json.loads(said).items()}

    return measured
