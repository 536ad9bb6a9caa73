"""Seeds on a CPU: a draw that is thrown away is not drawn.

A prompt that is read in more than one step (its step was full, or it was preempted) gets a token at each of them, and
vLLM throws all but the last away.  It then turns the request's generator back by an offset, which generators of a CPU
do not have: the worker raises, and with it the engine and every request in it ends.  Here such a request's generator is
taken away for the step, so it neither moves nor has to be turned back, and an answer is repeatable by its seed however
its prompt was read.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np


def _sampling(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def sample_tokens(self: Any, *args: Any, **kwargs: Any) -> Any:
        batch = self.input_batch
        discarded = np.flatnonzero(self.discard_request_mask.np[: batch.num_reqs]).tolist()
        # The sampler reads this very dictionary.
        kept = {place: batch.generators.pop(place) for place in discarded if place in batch.generators}
        try:
            return original(self, *args, **kwargs)
        finally:
            batch.generators.update(kept)

    return sample_tokens


def install() -> None:
    """Wrap sampling in the worker, where the platform is a CPU."""
    from vllm.platforms import current_platform
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if not current_platform.is_cpu() or getattr(GPUModelRunner, "trivium_keeps_seeds", False):
        return
    GPUModelRunner.trivium_keeps_seeds = True
    GPUModelRunner.sample_tokens = _sampling(GPUModelRunner.sample_tokens)
