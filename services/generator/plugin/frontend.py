"""The serving process's part of attestation: each answer of a request keeps its own record.

vLLM runs n answers to one prompt as n requests and hands their outputs over as one, merging what the reader has not
taken yet; of two merged outputs only the later one's ``kv_transfer_params`` stay.  Invariant: the record that stands
on an answer's piece is the last that the worker wrote of that very answer, and one that was not attested carries None.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from services.generator.plugin.attest import KEY, Record

_TOLD = "trivium_told"


def told(completion: Any) -> tuple[Record | None, int]:
    """The record of an answer, None when it was not attested, and its prompt tokens from the prefix cache."""
    return getattr(completion, _TOLD, (None, 0))


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def new_request_output(
        self: Any, external_id: str, outputs: list[Any], finished: bool, kv: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        for completion in outputs:
            setattr(completion, _TOLD, ((kv or {}).get(KEY), self.num_cached_tokens or 0))
        return original(self, external_id, outputs, finished, kv, *args, **kwargs)

    return new_request_output


def _merging(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def add(self: Any, next_output: Any, aggregate: bool) -> None:
        latest = {completion.index: told(completion) for completion in next_output.outputs}
        original(self, next_output, aggregate)
        for completion in self.outputs:
            if completion.index in latest:
                setattr(completion, _TOLD, latest[completion.index])

    return add


def install() -> None:
    """Wrap the making and merging of outputs in the serving process."""
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.output_processor import RequestState

    if getattr(RequestState, "trivium_installed", False):
        return
    RequestState.trivium_installed = True
    RequestState._new_request_output = _telling(RequestState._new_request_output)
    RequestOutput.add = _merging(RequestOutput.add)
