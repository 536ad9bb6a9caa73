"""Many attempts, counted by kind: what was read, what was changed, and what told a foreign thing from a missing one.

Invariant: an attempt counts as made only if the service took the request far enough to look something up, or answered.
"""

import asyncio
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from tests.security.crossing.attempts import Attempt, Kind, Trier
from tests.security.crossing.surface import Answered, Caller, Rpc, rpcs
from tests.security.crossing.treasure import Treasure, texts

_AT_ONCE = 16
# What a tenant made itself is its own: after so many attempts a new one goes on.
_ATTEMPTS_A_TENANT = 500
# What a request is refused for before anything is looked up.
_UNREAD = {"REQUEST_INVALID", "FIELD_INVALID", "ROLE_MISSING", "SCOPE_MISSING", "NOT_YET_AVAILABLE"}
# A token says itself where it goes on, an etag which state it is of: neither has a twin that never was.
_WITHOUT_TWIN = {Kind.PAGE_TOKEN, Kind.ETAG}
_CORRELATION = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass
class Report:
    """Counts by kind; ``reads`` and ``told_apart`` are descriptions, and should be none.

    ``seconds`` are of refused attempts and of their twins, by RPC.
    """

    made: Counter[Kind] = field(default_factory=Counter)
    unread: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    reads: list[str] = field(default_factory=list)
    told_apart: list[str] = field(default_factory=list)
    seconds: defaultdict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))

    @property
    def table(self) -> str:
        """The counts, a line a kind."""
        lines = [f"{kind.value}: {count}" for kind, count in sorted(self.made.items())]
        codes = ", ".join(f"{code} {count}" for code, count in self.answers.most_common(8))
        return "\n".join([*lines, f"refused unread: {self.unread}", f"answers: {codes}"])


async def tried(
    count: int, treasure: Treasure, owner: str, newcomer: Callable[[], Caller], chance: random.Random
) -> Report:
    """Make attempts until ``count`` were looked up or answered; ``newcomer`` is a caller in a new tenant."""
    report, methods = Report(), [rpc for rpc in rpcs() if rpc.method.name not in _LEFT_ALONE]
    while report.made.total() < count:
        # A tenant that says a name may be told it: what it never says is held against it.
        known = treasure.half(chance)
        trier = Trier(known, owner, chance)
        drawn = [trier.attempt(chance.choice(methods)) for _ in range(_ATTEMPTS_A_TENANT)]
        await _by_one(newcomer(), [it for it in drawn if it], known, report)
    return report


# Their effect is on what all tenants share, or they are asked with secrets and not with names.
_LEFT_ALONE = {"ExchangeKey", "GetSigningKeys"}


async def _by_one(caller: Caller, attempts: Sequence[Attempt], treasure: Treasure, report: Report) -> None:
    """The attempts of one tenant, some at once; what it has made with an owner's name is its own from then on."""
    own: set[str] = set()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(attempt: Attempt) -> None:
        async with gate:
            answered, seconds = await _timed(caller, attempt.rpc, attempt.request)
            _count(attempt, answered, treasure, report)
            if answered.is_answer:
                own.update(attempt.used)
            if attempt.kind in _WITHOUT_TWIN or own.intersection(attempt.used):
                return
            twin, twin_seconds = await _timed(caller, attempt.rpc, attempt.twin)
            if own.intersection(attempt.used):
                return
            if _told(answered, attempt.used) != _told(twin, attempt.made_up):
                report.told_apart.append(f"{attempt.rpc.path} {_line(attempt.request)}: {answered} | {twin}")
            report.seconds[attempt.rpc.path].append((seconds, twin_seconds))

    await asyncio.gather(*(one(attempt) for attempt in attempts))


async def _timed(caller: Caller, rpc: Rpc, request: Message) -> tuple[Answered, float]:
    began = time.perf_counter()
    answered = await caller.call(rpc, request)
    return answered, time.perf_counter() - began


def _count(attempt: Attempt, answered: Answered, treasure: Treasure, report: Report) -> None:
    report.answers[answered.reason or answered.code] += 1
    if answered.reason in _UNREAD:
        report.unread += 1
    else:
        report.made[attempt.kind] += 1
    said = [value for _, value in texts(attempt.request)]
    told = [value for message in answered.messages for _, value in texts(message)] + [answered.sentence]
    for value in told:
        leaked = [secret for secret in treasure.secrets if secret in value and not any(secret in it for it in said)]
        if leaked:
            report.reads.append(f"{attempt.rpc.path} {_line(attempt.request)}: told {leaked[:3]}")
            return


def _told(answered: Answered, values: Sequence[str]) -> tuple[str, str, str]:
    """A refusal without the values that the caller sent and the call's own number."""
    sentence = answered.sentence
    for value in sorted(values, key=len, reverse=True):
        sentence = sentence.replace(value, "VALUE")
    return answered.code, answered.reason, _CORRELATION.sub("ID", sentence)


def _line(message: Message) -> str:
    return " ".join(str(message).split())[:300]
