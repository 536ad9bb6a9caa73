"""Answers that come of no numbers: weights that are finite but enormous overflow, and a sampler makes tokens of the rest.

Before a token is drawn its row is looked at.  A last hidden state whose sum is not finite, or that holds nothing but
zeros (a norm has divided by what had overflowed), was computed from none, and so was a row whose first logit is not
finite: what an adapted head multiplies beyond all numbers stands in every logit.  The request's output says so, and the
frontend serves nothing of it.  It costs one look at a vector a row, where vLLM's own count of NaN reads every logit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

KEY = "trivium_not_finite"
_BROKEN = "trivium_broken"


def broken_rows(hidden: torch.Tensor, logits: torch.Tensor) -> list[int]:
    """Rows that no numbers stand behind.  hidden: [rows, hidden], behind the last norm; logits: [rows, vocabulary]."""
    sums = hidden.abs().sum(dim=-1, dtype=torch.float32)
    sound = torch.isfinite(sums) & (sums > 0) & torch.isfinite(logits[:, 0])
    return [] if bool(sound.all()) else torch.nonzero(~sound).flatten().tolist()


def _broken_requests(runner: Any) -> frozenset[str]:
    """The requests of the step that is about to be sampled; none where rows are not requests."""
    state, ids = runner.execute_model_state, runner.input_batch.req_ids
    if state is None or state.logits is None or len(state.logits) != len(ids):
        return frozenset()
    return frozenset(ids[row] for row in broken_rows(state.sample_hidden_states, state.logits))


def _sampling(original: Callable[..., Any], output_type: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def sample_tokens(self: Any, *args: Any, **kwargs: Any) -> Any:
        broken = _broken_requests(self)
        output = original(self, *args, **kwargs)
        if broken and isinstance(output, output_type):
            setattr(output, _BROKEN, broken)
        return output

    return sample_tokens


def _forwarding(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def update_from_output(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = original(self, scheduler_output, model_runner_output)
        broken = getattr(model_runner_output, _BROKEN, ())
        for batch in outputs.values() if broken else ():
            for output in batch.outputs:
                if output.request_id in broken:
                    output.kv_transfer_params = {**(output.kv_transfer_params or {}), KEY: True}
        return outputs

    return update_from_output


def install() -> None:
    """Wrap sampling in the worker, output handling in the engine core."""
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    if getattr(Scheduler, "trivium_looks_for_numbers", False):
        return
    Scheduler.trivium_looks_for_numbers = True
    GPUModelRunner.sample_tokens = _sampling(GPUModelRunner.sample_tokens, ModelRunnerOutput)
    Scheduler.update_from_output = _forwarding(Scheduler.update_from_output)
