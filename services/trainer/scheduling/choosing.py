"""`choose`: which jobs of one process take part in its next joint step.

A step advances a group, not everybody: a plan that advances all equally makes each of them end last.  In order:
1. Who is to leave ends the step that it has begun, whatever its tenant has left: its place is waited for.
2. Where deadlines press in the highest class, nobody else takes part: a step is as long as the work in it.
3. Who has begun an optimizer step ends it: its gradient is in memory until then.
4. The higher class.
5. The tenant that has had least for its weight: each has an account in seconds of machine for each unit of weight,
   and pays for its jobs' tokens as they are chosen (deficit round robin, where a deficit is the distance to the
   account that has had most).
6. Among a tenant's jobs the one with the least left, so that the mean completion time is low.  Once one of them does
   not fit into a step that is more than half full, those with the most steps to go share what is left of it: they are
   the last to end, and would else take the last steps alone.
Every `open_every` steps whoever has not moved for longest goes before all of them, and is charged for it: so a long
job still moves, a large one finds a budget that is whole, and a low class moves beside a high one that never ends.
Invariants: a step holds no more tokens than the budget, unless its first job alone does; of n jobs that may train
each is chosen within n times `open_every` steps; and whatever is chosen changes when a job's steps are taken, never what
they compute.
"""

import heapq
import math
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.trainer.scheduling.state import Priority


@dataclass(frozen=True, slots=True)
class Member:
    """A job on the bank and its next unit of work.

    ``unit_tokens`` are those that the unit adds to the step, ``tokens_left`` those that it has yet to train.
    ``begun`` says that an optimizer step is under way, ``leaving`` that it is to leave with the end of it; ``pressing``
    that its ``deadline`` leaves no time to lose (`ranking.pressing` says when).
    """

    job: str
    tenant: str
    unit_tokens: int
    tokens_left: int
    priority: Priority = Priority.NORMAL
    begun: bool = False
    leaving: bool = False
    pressing: bool = False
    deadline: float = math.inf


@dataclass(frozen=True, slots=True)
class Share:
    """A tenant's part.

    ``used_seconds`` is its decayed usage by the books, all of it, that of this process included; when the books are
    read anew, they take the place of what was counted here meanwhile.  ``tokens_left`` may still be trained in this
    window (`limits.tokens_left`); None is no limit.
    """

    weight: float = 1.0
    used_seconds: float = 0.0
    tokens_left: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a step may hold on this machine.

    ``max_members`` is the number of jobs up to which it gains; ``tokens_per_second`` turns tokens into seconds of
    machine.  An account lies at most ``max_lag_seconds`` behind the one that has had most: who was away for long is
    owed no more than that.
    """

    budget_tokens: int
    max_members: int
    tokens_per_second: float
    open_every: int = 8
    max_lag_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Account:
    """What a tenant has had, in seconds of machine for each unit of weight.

    ``booked_seconds`` is its usage as the books last said, ``paid_seconds`` what was counted here since.
    """

    seconds: float = 0.0
    booked_seconds: float = 0.0
    paid_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What one step leaves for the next: steps so far, tenants' accounts, and the step in which each job moved last.

    Lost with its process, and nothing but the order of steps is lost with it.
    """

    steps: int = 0
    accounts: Mapping[str, Account] = field(default_factory=dict)
    moved: Mapping[str, int] = field(default_factory=dict)


_SHARE = Share()


def choose(
    members: Sequence[Member], shares: Mapping[str, Share], step: Step, memory: Memory
) -> tuple[tuple[str, ...], Memory]:
    """Return the jobs of the next step, best first, and the memory for the choice after it.

    Tenants without a share have weight 1 and no limit.  Nobody is chosen when nobody may train and nobody is leaving.
    """
    moved = {member.job: memory.moved.get(member.job, memory.steps) for member in members}
    ledger = _Ledger(members, shares, step, memory)
    chosen: list[str] = []
    tokens = 0
    for member in ledger.offered(members, moved, is_open=memory.steps % step.open_every == step.open_every - 1):
        if len(chosen) == step.max_members or tokens >= step.budget_tokens:
            break
        if chosen and tokens + member.unit_tokens > step.budget_tokens:
            # Not for a unit that is large itself: behind it the rest would go in the wrong order all the time.
            ledger.crowded = tokens > step.budget_tokens // 2
            continue
        tokens += member.unit_tokens
        chosen.append(member.job)
        ledger.pay(member)
        moved[member.job] = memory.steps + 1
    return tuple(chosen), Memory(memory.steps + 1, ledger.accounts, moved)


class _Ledger:
    """The tenants' accounts during one choice.  ``crowded`` once what is left of the step is for the longest."""

    def __init__(self, members: Sequence[Member], shares: Mapping[str, Share], step: Step, memory: Memory) -> None:
        self._shares, self._step = shares, step
        self._left = {name: share.tokens_left for name, share in shares.items()}
        self._accounts = dict(memory.accounts)
        self.crowded = False
        present = {member.tenant for member in members}
        for name in self._accounts.keys() | present:
            self._accounts[name] = _read_anew(self._accounts.get(name, Account()), shares.get(name, _SHARE))
        most = max((self._accounts[name].seconds for name in present), default=0.0)
        for name, account in self._accounts.items():
            if account.seconds < most - step.max_lag_seconds:
                self._accounts[name] = replace(account, seconds=most - step.max_lag_seconds)

    @property
    def accounts(self) -> Mapping[str, Account]:
        return self._accounts

    def pay(self, member: Member) -> None:
        name = member.tenant
        account, weight = self._accounts[name], self._shares.get(name, _SHARE).weight
        seconds = member.unit_tokens / self._step.tokens_per_second / weight
        self._accounts[name] = replace(
            account, seconds=account.seconds + seconds, paid_seconds=account.paid_seconds + seconds
        )
        left = self._left.get(name)
        if left is not None:
            self._left[name] = left - member.unit_tokens

    def _may(self, member: Member) -> bool:
        left = self._left.get(member.tenant)
        return left is None or left > 0

    def offered(self, members: Sequence[Member], moved: Mapping[str, int], is_open: bool) -> Iterator[Member]:
        """The members in order; whoever takes one pays before asking for the next."""
        able = [member for member in members if member.leaving or self._may(member)]
        able.sort(key=lambda member: (moved[member.job], member.tokens_left, member.job))
        first = able[:1] if is_open else []
        yield from first
        yield from (member for member in able[len(first) :] if member.leaving)
        rest = [member for member in able[len(first) :] if not member.leaving]
        if hurried := _hurried(rest):
            yield from filter(self._may, hurried)
            return
        yield from filter(self._may, (member for member in rest if member.begun))
        classes: dict[int, list[Member]] = defaultdict(list)
        for member in rest:
            if not member.begun:
                classes[-member.priority].append(member)
        for _, equals in sorted(classes.items()):
            yield from self._by_tenant(equals)

    def _by_tenant(self, members: Iterable[Member]) -> Iterator[Member]:
        """From the tenant that has had least, its next; until all have been offered.

        The members come in the order in which they moved last, which decides between equals.
        """
        of_tenant: dict[str, list[Member]] = defaultdict(list)
        for member in members:
            of_tenant[member.tenant].append(member)
        queues = {name: _Queue(own) for name, own in of_tenant.items()}
        tenants = [(self._accounts[name].seconds, name) for name in queues]
        heapq.heapify(tenants)
        while tenants:
            name = tenants[0][1]
            member = queues[name].take(longest=self.crowded)
            if self._may(member):
                yield member
            if queues[name]:
                heapq.heapreplace(tenants, (self._accounts[name].seconds, name))
            else:
                heapq.heappop(tenants)


class _Queue:
    """A tenant's jobs of one class, each of them taken once.  Among equals whoever was given first is."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._shortest = deque(sorted(members, key=lambda member: member.tokens_left))
        self._longest = deque(sorted(members, key=lambda member: -member.tokens_left / member.unit_tokens))
        self._waiting = {member.job for member in members}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def take(self, *, longest: bool) -> Member:
        """The one with the least tokens left, or with the most steps to go."""
        side = self._longest if longest else self._shortest
        while side[0].job not in self._waiting:
            side.popleft()
        self._waiting.remove(side[0].job)
        return side.popleft()


def _read_anew(account: Account, share: Share) -> Account:
    """The account once the books were read again; as it is while they say the same."""
    if share.used_seconds == account.booked_seconds:
        return account
    booked = (share.used_seconds - account.booked_seconds) / share.weight
    return Account(account.seconds + booked - account.paid_seconds, share.used_seconds)


def _hurried(members: Sequence[Member]) -> list[Member]:
    """Those of the highest class whose deadlines press, by deadline."""
    highest = max((member.priority for member in members), default=0)
    hurried = [member for member in members if member.priority == highest and member.pressing]
    return sorted(hurried, key=lambda member: member.deadline)
