"""How much memory a pass over a bank takes at its peak, by what torch's own profiler sees allocated and given back."""

from collections.abc import Iterable
from itertools import accumulate
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from services.trainer.bank import Bank, Segment, Slot
from services.trainer.data.examples import Example

ROW_TOKENS = 64


def rows(tokens: int) -> list[Example]:
    """Rows of so many tokens in all, of which every second one is supervised."""
    supervised = tuple(place % 2 == 1 for place in range(ROW_TOKENS))
    return [Example(tuple(range(ROW_TOKENS)), supervised) for _ in range(tokens // ROW_TOKENS)]


def peak_bytes(bank: Bank, slot: Slot, tokens: int, *, recomputes: bool) -> int:
    """Most that a pass forward and backward over so many tokens holds beyond what was there before it."""
    segments = [Segment(slot, rows(tokens), keeps_gradient=True)]
    # The gradient's vector is there for both.
    slot.gradients()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        (scores,) = bank.score(segments, recomputes=recomputes)
        bank.backward([-scores.log_probs.mean()])
    found: Any = profiled.profiler
    changes = sorted(_changes(found.kineto_results.experimental_event_tree()))
    return max(accumulate(change for _, change in changes))


def _changes(events: Iterable[Any]) -> Iterable[tuple[int, int]]:
    """When bytes were allocated (more than 0) or given back."""
    for event in events:
        if event.tag == torch._C._profiler._EventType.Allocation:
            yield event.start_time_ns, event.extra_fields.alloc_size
        yield from _changes(event.children)
