"""The serving process's part of what workers tell of their steps: each answer of a request keeps its own record.

vLLM runs n answers to one prompt as n requests and hands their outputs over as one, merging what the reader has not
taken yet; of two merged outputs only the later one's ``kv_transfer_params`` stay.  Invariant: the record that stands
on an answer's piece is the last that the worker wrote of that very answer, one that was not attested carries None, and
one that was made of no numbers (``finite``) says so however it was merged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from services.generator.plugin import finite
from services.generator.plugin.attest import KEY, Record

_TOLD = "trivium_told"


class Told(NamedTuple):
    """What the worker told of an answer: its record, None when it was not attested, and whether numbers stand behind it.

    ``cached_tokens`` are those of its prompt that the prefix cache held.
    """

    record: Record | None = None
    cached_tokens: int = 0
    finite: bool = True


def told(completion: Any) -> Told:
    """What the worker told of an answer."""
    found: Told = getattr(completion, _TOLD, Told())
    return found


def _telling(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def new_request_output(
        self: Any, external_id: str, outputs: list[Any], finished: bool, kv: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        said = kv or {}
        for completion in outputs:
            setattr(completion, _TOLD, Told(said.get(KEY), self.num_cached_tokens or 0, finite.KEY not in said))
        return original(self, external_id, outputs, finished, kv, *args, **kwargs)

    return new_request_output


def _merging(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def add(self: Any, next_output: Any, aggregate: bool) -> None:
        latest = {completion.index: told(completion) for completion in next_output.outputs}
        before = {completion.index: told(completion) for completion in self.outputs}
        original(self, next_output, aggregate)
        for completion in self.outputs:
            if (said := latest.get(completion.index)) is not None:
                sound = said.finite and before.get(completion.index, said).finite
                setattr(completion, _TOLD, said._replace(finite=sound))

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
