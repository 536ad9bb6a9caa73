"""One queue in front of the model: what is computed together, and whose turn it is.

A model that pads gets sequences of one padded length only, so a text is always computed in
the same shape and gets the same vector whatever else is in flight, and no batch pays for the
longest of strangers; one that does not gets any lengths together.  Turns are start-time fair queueing (Goyal, Vin and Cheng,
1996): each tenant has a flow for questions and one for documents, a question counts an
eighth of its tokens, and nobody starves.  Invariant: a tenant's text that waits or is
being computed is computed no second time, and nothing is whose caller has gone.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import Failure, Reason

Vector = NDArray[np.float32]
TokenIds = tuple[int, ...]

# Padded lengths are multiples of this: sixteen shapes up to 256 tokens, 7 tokens of padding on average.
LENGTH_STEP = 16
_URGENT_WEIGHT = 8.0
_RETRY_SECONDS = 1.0
# Who has less time left than this many times what stands before it is expected to take is refused: the queue of one who
# asks too much stays shorter than the deadline, instead of at it, where every second one is admitted and comes too late.
_MARGIN = 2.0
# What the batches before the last have less say than it has in what a token takes.
_LEARNING = 0.2


class Product(Enum):
    """What is wanted of a sequence: one vector, [d_model], one a token, [tokens, d_model], or a pair's score, [1]."""

    POOLED = "pooled"
    TOKENS = "tokens"
    SCORE = "score"


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences to be computed together."""

    product: Product
    sequences: tuple[TokenIds, ...]

    @property
    def length(self) -> int:
        """The tokens that a model pads each sequence to, if it pads."""
        return padded_length(max(map(len, self.sequences)))


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose turn it is: a tenant's questions, or its documents."""

    owner: str
    urgent: bool


@dataclass(frozen=True, slots=True)
class _Lane:
    flow: Flow
    product: Product
    # 0 where any lengths go together.
    length: int


@dataclass(frozen=True, slots=True)
class _Work:
    """What is computed once.  Of one tenant: a cost that two share would tell either what the other asked."""

    owner: str
    product: Product
    ids: TokenIds


@dataclass(slots=True)
class _Waiting:
    rank: float
    number: int
    flow: Flow
    work: _Work
    cost: int
    deadline: float | None
    answer: asyncio.Future[Vector]
    # Computed with a twin, wherever it still stands in its lane.
    taken: bool = False

    def __lt__(self, other: "_Waiting") -> bool:
        return (self.rank, self.number) < (other.rank, other.number)

    def alive(self, now: float) -> bool:
        """Whether somebody still wants the answer.  One whose deadline has passed is told so."""
        if not self.answer.done() and self.deadline is not None and self.deadline <= now:
            self.answer.set_exception(Failure(Reason.DEADLINE_EXCEEDED))
        return not self.answer.done()


@dataclass(slots=True)
class Counters:
    """What the queue has done since it was made; tokens are counted as computed, padding apart."""

    batches: int = 0
    tokens: int = 0
    padding: int = 0
    shared: int = 0
    dropped: int = 0

    def add(self, other: "Counters") -> None:
        """Count what another queue has done as well."""
        for counted in fields(self):
            setattr(self, counted.name, getattr(self, counted.name) + getattr(other, counted.name))


Compute = Callable[[Batch], Awaitable[Sequence[Vector]]]
# Told of each batch how it ended: the error, or None.
Report = Callable[[BaseException | None], None]


def padded_length(tokens: int) -> int:
    """The shape in which a sequence of ``tokens`` is computed."""
    return -(-max(tokens, 1) // LENGTH_STEP) * LENGTH_STEP


@dataclass(slots=True)
class Batcher:
    """The queue.  :meth:`run` feeds ``compute`` one batch after the other; it is started once.

    ``pads``: the model pads sequences, so each costs its padded length, and only those of one padded length go together.
    """

    compute: Compute
    batch_tokens: int
    queue_tokens: int
    pads: bool = True
    report: Report = lambda _: None
    clock: Callable[[], float] = time.monotonic
    counters: Counters = field(default_factory=Counters)
    waiting_tokens: int = 0
    _lanes: dict[_Lane, deque[_Waiting]] = field(default_factory=dict)
    _twins: dict[_Work, dict[int, _Waiting]] = field(default_factory=dict)
    _computing: dict[_Work, list[_Waiting]] = field(default_factory=dict)
    _finish: dict[Flow, float] = field(default_factory=dict)
    _held: Counter[Flow] = field(default_factory=Counter)
    _spent_seconds: float = 0.0
    _spent_tokens: float = 0.0
    # When the batch before ended, while there is work.
    _busy_since: float | None = None
    _virtual: float = 0.0
    _number: int = 0
    _filled: asyncio.Event = field(default_factory=asyncio.Event)
    _room: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def submit(
        self,
        flow: Flow,
        product: Product,
        sequences: Sequence[TokenIds],
        *,
        deadline: float | None = None,
        patient: bool = False,
    ) -> list[Vector]:
        """The products of ``sequences``, in order.  ``deadline`` is on the clock's axis.

        When too much waits already, or what stands before it in its own flow takes longer than it
        may take of its time, a patient caller waits, any other gets EMBEDDING_QUEUE_FULL at once.
        Raises DEADLINE_EXCEEDED for what expired while waiting.
        """
        wanted = sum(map(self._cost, sequences))
        if not patient:
            self._refuse_what_comes_too_late(flow, deadline)
        await self._admit(wanted, patient)
        answers = [self._enqueue(flow, product, ids, deadline) for ids in sequences]
        self._filled.set()
        try:
            return list(await asyncio.gather(*answers))
        finally:
            for answer in answers:
                answer.cancel()

    async def run(self) -> None:
        """Compute batches for as long as the service lives."""
        while True:
            await self._filled.wait()
            work = self._take()
            if work is None:
                self._filled.clear()
                self._busy_since = None
            else:
                await self._answer(*work)
            async with self._room:
                self._room.notify_all()

    def _refuse_what_comes_too_late(self, flow: Flow, deadline: float | None) -> None:
        ahead = self._held[flow]
        expected = ahead * self._spent_seconds / max(self._spent_tokens, 1.0)
        left = math.inf if deadline is None else deadline - self.clock()
        if 0 < left < _MARGIN * expected:
            raise Failure(
                Reason.EMBEDDING_QUEUE_FULL,
                retry_after_seconds=expected,
                waiting=ahead,
                limit=int(ahead * left / expected / _MARGIN),
            )

    async def _admit(self, wanted: int, patient: bool) -> None:
        def fits() -> bool:
            # One request larger than the whole queue is served alone rather than never.
            return not self.waiting_tokens or self.waiting_tokens + wanted <= self.queue_tokens

        if fits():
            return
        if not patient:
            raise Failure(
                Reason.EMBEDDING_QUEUE_FULL,
                retry_after_seconds=_RETRY_SECONDS,
                waiting=self.waiting_tokens,
                limit=self.queue_tokens,
            )
        async with self._room:
            await self._room.wait_for(fits)

    def _enqueue(self, flow: Flow, product: Product, ids: TokenIds, deadline: float | None) -> asyncio.Future[Vector]:
        answer: asyncio.Future[Vector] = asyncio.get_running_loop().create_future()
        work, cost = _Work(flow.owner, product, ids), self._cost(ids)
        start = max(self._virtual, self._finish.get(flow, 0.0))
        self._number += 1
        entry = _Waiting(start, self._number, flow, work, cost, deadline, answer)
        if work in self._computing:
            self._computing[work].append(entry)
            return answer
        self._finish[flow] = start + cost / (_URGENT_WEIGHT if flow.urgent else 1.0)
        self._lanes.setdefault(_Lane(flow, product, cost if self.pads else 0), deque()).append(entry)
        self._twins.setdefault(work, {})[entry.number] = entry
        self.waiting_tokens += cost
        self._held[flow] += cost
        return answer

    def _cost(self, ids: TokenIds) -> int:
        return padded_length(len(ids)) if self.pads else len(ids)

    def _take(self) -> tuple[Product, dict[_Work, list[_Waiting]]] | None:
        """The next batch: the lane whose turn it is, filled up from lanes of the same shape; twins come along."""
        now = self.clock()
        self._drop_dead_heads(now)
        if not self._lanes:
            self._finish.clear()
            return None
        first = min(self._lanes, key=lambda lane: self._lanes[lane][0])
        self._virtual = self._lanes[first][0].rank
        shape = (first.product, first.length)
        lanes = [entries for lane, entries in self._lanes.items() if (lane.product, lane.length) == shape]
        room = self.batch_tokens
        groups: dict[_Work, list[_Waiting]] = {}
        while source := min((entries for entries in lanes if entries), key=lambda it: it[0], default=None):
            if groups and source[0].cost > room:
                break
            entry = source.popleft()
            if not entry.taken and (alive := self._with_twins(entry.work, now)):
                groups[entry.work] = alive
                room -= entry.cost
        return first.product, groups

    def _with_twins(self, work: _Work, now: float) -> list[_Waiting]:
        """Take all who wait for ``work`` out of the count, and return those who still want it."""
        twins = list(self._twins.pop(work).values())
        alive = [entry for entry in twins if entry.alive(now)]
        for entry in twins:
            entry.taken = True
            self._leave(entry)
        self.counters.dropped += len(twins) - len(alive)
        return alive

    def _drop_dead_heads(self, now: float) -> None:
        for lane, entries in list(self._lanes.items()):
            while entries and (entries[0].taken or not entries[0].alive(now)):
                self._forget(entries.popleft())
            if not entries:
                del self._lanes[lane]

    def _forget(self, entry: _Waiting) -> None:
        if entry.taken:
            return
        self._leave(entry)
        self.counters.dropped += 1
        twins = self._twins[entry.work]
        del twins[entry.number]
        if not twins:
            del self._twins[entry.work]

    def _leave(self, entry: _Waiting) -> None:
        self.waiting_tokens -= entry.cost
        self._held[entry.flow] -= entry.cost
        if not self._held[entry.flow]:
            del self._held[entry.flow]

    async def _answer(self, product: Product, groups: dict[_Work, list[_Waiting]]) -> None:
        if not groups:
            return
        batch = Batch(product, tuple(work.ids for work in groups))
        self._computing = groups
        # Where one batch follows another, what lies between them is part of what a token takes.
        began = self.clock() if self._busy_since is None else self._busy_since
        computing = asyncio.ensure_future(self.compute(batch))
        await asyncio.wait([computing])
        self._busy_since = self.clock()
        self._learn(self._busy_since - began, sum(map(self._cost, batch.sequences)))
        self._computing = {}
        error = computing.exception()
        self.report(error)
        self._count(batch, sum(map(len, groups.values())))
        for number, twins in enumerate(groups.values()):
            for entry in twins:
                if entry.answer.done():
                    continue
                if error is not None:
                    entry.answer.set_exception(error)
                else:
                    entry.answer.set_result(computing.result()[number])

    def _learn(self, seconds: float, tokens: int) -> None:
        """What the last batches took, a batch by its tokens: a single text says little of a crowd."""
        self._spent_seconds += seconds - _LEARNING * self._spent_seconds
        self._spent_tokens += tokens - _LEARNING * self._spent_tokens

    def _count(self, batch: Batch, answered: int) -> None:
        tokens = sum(map(len, batch.sequences))
        self.counters.batches += 1
        self.counters.tokens += tokens
        self.counters.padding += sum(map(self._cost, batch.sequences)) - tokens
        self.counters.shared += answered - len(batch.sequences)
