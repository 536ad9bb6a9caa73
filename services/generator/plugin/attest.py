"""Attestation: which slot multiplied a request's rows, told beside its tokens.

In the worker, after vLLM has laid out a step, the slots are read back from the row
groups that will multiply (not from the request), joined with the slots' stamps and
kept on the request's own state, so that the record dies with the request.  It rides
to the engine core on the step's output and to the frontend on ``kv_transfer_params``,
the one free-form field of an engine output, under ``KEY``.

Invariants: a request whose slot or stamp changed between two of its steps is reported
as violated for good; an output without a record was not attested, and the frontend
refuses to serve it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from services.generator.plugin.base import loaded_base
from services.generator.plugin.rows import NO_SLOT, slots_of_requests
from services.generator.plugin.slots import occupant

KEY = "trivium_attestation"
_STEP = "trivium_step"
_RECORD = "trivium_record"

Record = tuple[int, str, int, str, str]
"""(slot, version that occupies it, steps so far, violation or "", digest of the base under it)."""


def extend(before: Record | None, slot: int, version: str, violation: str, base: str) -> Record:
    """The request's record after one more step."""
    if before is None:
        return (slot, version, 1, violation, base)
    first_slot, first_version, steps, earlier, _ = before
    if not (earlier or violation) and (slot, version) != (first_slot, first_version):
        violation = f"slot {first_slot} ({first_version or 'base'}) became {slot} ({version or 'base'})"
    return (first_slot, first_version, steps + 1, earlier or violation, base)


def _language_wrapper(runner: Any) -> Any:
    return next(iter(runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()))


def _applied_slots(wrapper: Any, tokens: int) -> npt.NDArray[np.int64]:
    if hasattr(wrapper, "applied_slots"):
        return np.asarray(wrapper.applied_slots(tokens))
    return np.asarray(wrapper.token_lora_indices[:tokens].cpu().numpy())


def _record_step(runner: Any, request_ids: Sequence[str], scheduled_tokens: npt.NDArray[np.int32]) -> None:
    wrapper = _language_wrapper(runner)
    applied = _applied_slots(wrapper, int(scheduled_tokens.sum()))
    manager = runner.lora_manager._adapter_manager
    base = loaded_base(runner)
    step: dict[str, Record] = {}
    for request_id, (low, high) in zip(request_ids, slots_of_requests(applied, scheduled_tokens), strict=True):
        violation = "" if low == high else f"slots {low} and {high} in one step"
        version = "" if high == NO_SLOT else occupant(manager, high)
        if high != NO_SLOT and not version:
            violation = violation or f"slot {high} carries no identity"
        step[request_id] = _kept(runner.requests[request_id], high, version, violation, base)
    setattr(runner, _STEP, step)


def _record_base_step(runner: Any, request_ids: Sequence[str]) -> None:
    """The same in an engine without slots, where there is nothing but the base."""
    base = loaded_base(runner)
    step = {request_id: _kept(runner.requests[request_id], NO_SLOT, "", "", base) for request_id in request_ids}
    setattr(runner, _STEP, step)


def _kept(state: Any, slot: int, version: str, violation: str, base: str) -> Record:
    record = extend(getattr(state, _RECORD, None), slot, version, violation, base)
    setattr(state, _RECORD, record)
    return record


def _laying_out(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def set_active_loras(
        self: Any, input_batch: Any, num_scheduled_tokens: npt.NDArray[np.int32], *args: Any, **kwargs: Any
    ) -> None:
        wrapper = _language_wrapper(self)
        if not input_batch.lora_id_to_lora_request and hasattr(wrapper, "select_base"):
            wrapper.select_base()
            self.lora_manager._adapter_manager._last_mapping = None
        else:
            original(self, input_batch, num_scheduled_tokens, *args, **kwargs)
        requests = len(num_scheduled_tokens)
        _record_step(self, input_batch.req_ids[:requests], num_scheduled_tokens)

    return set_active_loras


def _preparing(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def prepare_inputs(self: Any, scheduler_output: Any, num_scheduled_tokens: npt.NDArray[np.int32]) -> Any:
        prepared = original(self, scheduler_output, num_scheduled_tokens)
        if not self.lora_config:
            _record_base_step(self, self.input_batch.req_ids[: len(num_scheduled_tokens)])
        return prepared

    return prepare_inputs


def _sampling(original: Callable[..., Any], output_type: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def sample_tokens(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = original(self, *args, **kwargs)
        step = self.__dict__.pop(_STEP, None)
        if step and isinstance(output, output_type) and output.req_ids:
            setattr(output, _STEP, step)
        return output

    return sample_tokens


def _forwarding(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def update_from_output(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        outputs = original(self, scheduler_output, model_runner_output)
        step = getattr(model_runner_output, _STEP, None) or {}
        for batch in outputs.values():
            for output in batch.outputs:
                if (record := step.get(output.request_id)) is not None:
                    output.kv_transfer_params = {**(output.kv_transfer_params or {}), KEY: record}
        return outputs

    return update_from_output


def install() -> None:
    """Wrap step layout and sampling in the worker, output handling in the engine core."""
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.outputs import ModelRunnerOutput
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner
    from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

    if getattr(Scheduler, "trivium_installed", False):
        return
    Scheduler.trivium_installed = True
    LoRAModelRunnerMixin.set_active_loras = _laying_out(LoRAModelRunnerMixin.set_active_loras)
    GPUModelRunner._prepare_inputs = _preparing(GPUModelRunner._prepare_inputs)
    GPUModelRunner.sample_tokens = _sampling(GPUModelRunner.sample_tokens, ModelRunnerOutput)
    Scheduler.update_from_output = _forwarding(Scheduler.update_from_output)
