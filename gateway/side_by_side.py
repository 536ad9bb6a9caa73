"""Several prompts of one request, answered side by side and told as one answer.

Invariants: answer j to prompt i is number i * n + j and draws with the seed of that number, whatever stands beside it.  One
answer is told, of one version's words: a prompt that fails, or that other weights answer, ends all of them.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace

from gateway.generation import ChoiceEnd, Generated, Prompt, Receipt, Sampling, Several, TextDelta, Usage
from services.chassis.errors import Failure, Reason

Parts = AsyncGenerator[TextDelta | Generated]
# As many as there may be to one prompt: no request weighs more on an engine for the form that it has.
MOST_AT_ONCE = 16
# Parts that may wait for a reader who is slower than the model.
_BUFFERED = 64
# Seeds are whole numbers of 63 bits.
_SEEDS = 1 << 63
# What says that a prompt is at fault, of whatever is said of it.
_OF_PROMPT = frozenset({"text", "token_ids"})


class SideBySide:
    """One request, run once.  ``begin`` begins the answers to one prompt under a sampling, whose seed is set."""

    def __init__(self, begin: Callable[[Prompt, Sampling], Parts], several: Several, sampling: Sampling) -> None:
        self._begin = begin
        self._prompts = several.prompts
        self._sampling = sampling
        self._answers = sampling.n or 1
        self._queue: asyncio.Queue[tuple[int, TextDelta | Generated] | asyncio.Task[None]] = asyncio.Queue()
        self._room = asyncio.Semaphore(_BUFFERED)

    async def parts(self) -> Parts:
        """Text of all as it comes, then one end.  Closing the iterator aborts the work.

        Raises the failure of the first prompt that fails, VERSION_MISMATCH.
        """
        waiting = enumerate(self._prompts)
        lanes = min(len(self._prompts), max(1, MOST_AT_ONCE // self._answers))
        tasks = [asyncio.create_task(self._answer(waiting)) for _ in range(lanes)]
        for task in tasks:
            # It comes behind all that the lane has said.
            task.add_done_callback(self._queue.put_nowait)
        ends: dict[int, Generated] = {}
        try:
            while lanes:
                item = await self._queue.get()
                if isinstance(item, asyncio.Task):
                    item.result()
                    lanes -= 1
                    continue
                self._room.release()
                number, part = item
                if isinstance(part, Generated):
                    ends[number] = part
                else:
                    yield replace(part, choice=number * self._answers + part.choice)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        last = next(reversed(ends.values()))
        yield whole([ends[number] for number in sorted(ends)], last)

    async def _answer(self, waiting: Iterator[tuple[int, Prompt]]) -> None:
        """A lane: one prompt after another, of those that nobody has begun."""
        for number, prompt in waiting:
            try:
                async with aclosing(self._begin(prompt, self._drawn(number))) as parts:
                    async for part in parts:
                        await self._room.acquire()
                        self._queue.put_nowait((number, part))
            except Failure as failure:
                raise _located(failure, number) from None

    def _drawn(self, number: int) -> Sampling:
        seed = ((self._sampling.seed or 0) + number * self._answers) % _SEEDS
        return replace(self._sampling, seed=seed)


def whole(ends: Sequence[Generated], last: Generated) -> Generated:
    """The end of all, in the order of the prompts; its stages are those of the ``last`` one.  Raises VERSION_MISMATCH."""
    first = ends[0]
    for end in ends:
        _require_same(end.receipt, first.receipt)
    receipt = joined([end.receipt for end in ends])
    return Generated(
        first.finish_reason,
        receipt.usage,
        last.timings,
        receipt,
        tuple(choice for end in ends for choice in _choices(end)),
        tuple(dict.fromkeys(told for end in ends for told in end.fallbacks)),
    )


def joined(receipts: Sequence[Receipt]) -> Receipt:
    """The receipt of several prompts, in their order, under the request's one sampling."""
    first = receipts[0]
    if len(receipts) == 1:
        return first
    return replace(
        first,
        prompt_tokens_digest=digest_of(receipt.prompt_tokens_digest for receipt in receipts),
        completion_digest=digest_of(receipt.completion_digest for receipt in receipts),
        usage=_sum(receipt.usage for receipt in receipts),
        complete_time_seconds=max(receipt.complete_time_seconds for receipt in receipts),
    )


def _require_same(receipt: Receipt, first: Receipt) -> None:
    """Raise VERSION_MISMATCH unless both are of the same weights."""
    if (receipt.version_digest, receipt.base_digest) != (first.version_digest, first.base_digest):
        raise Failure(
            Reason.VERSION_MISMATCH,
            resolved=first.version_digest or first.resolved_model,
            attested=receipt.version_digest or "the base alone",
            base=receipt.base_digest,
        )


def digest_of(digests: Iterable[str]) -> str:
    """The digest (sha256:…) of digests, as text, one after another; empty where one of them is not known."""
    each = list(digests)
    return f"sha256:{hashlib.sha256(''.join(each).encode()).hexdigest()}" if all(each) else ""


def _sum(usages: Iterable[Usage]) -> Usage:
    each = list(usages)
    return Usage(
        sum(usage.prompt_tokens for usage in each),
        sum(usage.completion_tokens for usage in each),
        sum(usage.cached_prompt_tokens for usage in each),
    )


def _choices(end: Generated) -> tuple[ChoiceEnd, ...]:
    return end.choices or (ChoiceEnd(end.finish_reason, end.usage.completion_tokens),)


def _located(failure: Failure, number: int) -> Failure:
    """The failure with the prompt that it is of, where a prompt is what is at fault."""
    if failure.field not in _OF_PROMPT and failure.reason is not Reason.PROMPT_TOO_LONG:
        return failure
    field = f"prompts[{number}]"
    located = Failure(failure.reason, field=field, violations=failure.violations)
    located.variables = {**failure.variables, "field": field}
    return located
