"""Many attempts, counted by kind: what was read, what was changed, and what told a foreign thing from a missing one.

Invariant: an attempt counts as made only if the service took the request far enough to look something up, or answered.
"""

import asyncio
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from protovalidate import Validator

from gateway.http.routes import Route
from tests.security.crossing.attempts import Attempt, Kind, Trier
from tests.security.crossing.compared import Same, said_by, same
from tests.security.crossing.doors import Asked, Door, Heard, Knock, Knocker, named, routes
from tests.security.crossing.likeness import any_says
from tests.security.crossing.surface import Answered, Caller, Rpc, rpcs
from tests.security.crossing.treasure import Treasure, texts

_AT_ONCE = 48
# After so many attempts other strangers go on, who say another half of what the owner has.
_ATTEMPTS_A_HALF = 500
_HTTP_SHARE = 0.15
# So often is tried what was not looked up yet.
_ROUNDS, _OFTEN = 10, 5
# What a request is refused for before anything is looked up.
_UNREAD = {"REQUEST_INVALID", "FIELD_INVALID", "ROLE_MISSING", "SCOPE_MISSING", "NOT_YET_AVAILABLE"}
_UNREAD |= {"PARAMETER_UNSUPPORTED", "BODY_NOT_DECODABLE"}
# A token says itself where it goes on, an etag which state it is of: neither has a twin that never was.
_WITHOUT_TWIN = {Kind.PAGE_TOKEN, Kind.ETAG, Kind.BARE}
# They are asked with secrets and not with names.
_LEFT_ALONE = {"ExchangeKey", "ExchangeToken", "GetSigningKeys"}
# Where these do not refuse they compute: they are drawn less often.
_DEAR = {
    *("Ask", "Chat", "Complete", "CreateResponse", "Generate", "ReplayAnswer", "Embed", "EmbedStream", "Rerank"),
    *("CreateEmbeddings", "Tune", "Summarize", "ImportModel", "MergeVersion", "UploadDataset", "WatchAdapters"),
    *("Watch", "EstimateJob", "EstimateSweep", "PreviewDataset", "UploadDocument", "PutDocument", "LoadAdapter"),
    "ExplainRoute",
}
_DEAR_WEIGHT, _REFUSED_WEIGHT = 0.5, 0.05
# What two answers differ in by themselves, such as which of two missing things is missed first, is not always so.
_ASKED_AGAIN = 5


@dataclass
class Report:
    """Counts by kind; ``reads`` and ``told_apart`` are descriptions, and should be none."""

    made: Counter[Kind] = field(default_factory=Counter)
    # By RPC, and by route.
    places: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    reads: list[str] = field(default_factory=list)
    told_apart: list[str] = field(default_factory=list)

    @property
    def table(self) -> str:
        """The counts, a line a kind."""
        lines = [f"{kind.value}: {count}" for kind, count in sorted(self.made.items())]
        codes = ", ".join(f"{code} {count}" for code, count in self.answers.most_common(12))
        return "\n".join(
            [*lines, f"RPCs and routes: {len(self.places)}", f"refused unread: {self.unread}", f"answers: {codes}", ""]
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody in a tenant of its own, at both doors."""

    caller: Caller
    door: Door


@dataclass(frozen=True, slots=True)
class Strangers:
    """One who has nothing and makes nothing, and one who makes what it can: what a name means to that one may change."""

    looking: Stranger
    making: Stranger


@dataclass(slots=True)
class _Batch:
    """What one pair of strangers learns."""

    strangers: Strangers
    secrets: Sequence[str]
    report: Report
    # How the twin of a request of this shape was refused.  Whoever has nothing is refused alike each time.
    refused: dict[Hashable, Same]
    newcomer: Callable[[], Awaitable[Strangers]]

    async def rpc(self, attempt: Attempt) -> None:
        """Make an attempt at an RPC."""
        makes = attempt.rpc.makes

        async def ask(strangers: Strangers, twin: bool) -> Answered:
            caller = (strangers.making if makes else strangers.looking).caller
            return await caller.call(attempt.rpc, attempt.twin if twin else attempt.request)

        answered = await ask(self.strangers, False)
        said = [value for _, value in texts(attempt.request)]
        where = f"{attempt.rpc.path} {_line(str(attempt.request))}"
        self._count(attempt.kind, attempt.rpc.path, answered.reason or answered.code, _is_unread(answered))
        self._read(answered, said, where)
        if attempt.kind is Kind.PAGE_TOKEN and answered.is_answer:
            self.report.told_apart.append(f"{where}: a page's token was taken of whom it was not given to")
        if attempt.kind not in _WITHOUT_TWIN:
            await self._beside(ask, answered, attempt, where, shape=None if makes else attempt.shape)

    async def route(self, route: Route, knock: Knock) -> None:
        """Make an attempt at a route."""
        makes = named(route) in _MAKING_ROUTES

        async def ask(strangers: Strangers, twin: bool) -> Heard:
            door = (strangers.making if makes else strangers.looking).door
            return await door.ask(knock.twin if twin else knock.request)

        answered = await ask(self.strangers, False)
        where = f"{knock.route} {_line(str(knock.request))}"
        self._count(Kind.ROUTE, knock.route, f"HTTP {answered.status}", _is_unread(answered))
        self._read(answered, list(knock.used), where)
        await self._beside(ask, answered, knock, where, shape=None if makes else knock.shape)

    async def _beside(
        self,
        ask: Callable[[Strangers, bool], Awaitable[Answered | Heard]],
        answered: Answered | Heard,
        attempt: Attempt | Knock,
        where: str,
        shape: bytes | Asked | None,
    ) -> None:
        """Ask for what never was, unless it is known how that is answered, and compare.

        Where they differ newcomers ask both again: to whoever has made something it may be its own that is told.
        """
        real, missing = {same(answered, attempt.used)}, set[Same]()
        if shape is not None and self.refused.get(shape) in real:
            return
        strangers = self.strangers
        for again in range(_ASKED_AGAIN):
            if again:
                strangers = await self.newcomer()
                real.add(same(await ask(strangers, False), attempt.used))
            twin = await ask(strangers, True)
            missing.add(same(twin, attempt.made_up))
            if shape is not None and not twin.is_answer:
                self.refused[shape] = same(twin, attempt.made_up)
            if real & missing:
                return
        self.report.told_apart.append(f"{where}: {real} | {missing}")

    def _count(self, kind: Kind, place: str, answer: str, unread: bool) -> None:
        self.report.answers[answer] += 1
        self.report.tried[place] += 1
        if unread:
            self.report.unread += 1
        else:
            self.report.made[kind] += 1
            self.report.places[place] += 1

    def _read(self, answered: Answered | Heard, said: Sequence[str], where: str) -> None:
        for value in said_by(answered):
            leaked = [it for it in self.secrets if it in value and not any_says(said, it)]
            if leaked:
                self.report.reads.append(f"{where}: told {leaked[:3]}")
                return


_MAKING_ROUTES = {
    f"POST /v1/{it}"
    for it in (
        *("files", "batches", "vector_stores", "fine_tuning/jobs"),
        *("responses", "chat/completions", "completions", "trivium/replays"),
    )
}


class Trial:
    """Attempts at one tenant's treasure; ``strangers`` are two in new tenants."""

    def __init__(
        self, treasure: Treasure, owner: str, strangers: Callable[[], Awaitable[Strangers]], chance: random.Random
    ) -> None:
        self.report = Report()
        self._treasure = treasure
        self._owner = owner
        self._strangers = strangers
        self._chance = chance
        self._rules = Validator()
        self._refused: dict[Hashable, Same] = {}
        self._kinds: dict[str, list[Kind]] = {}
        self._places: tuple[Rpc | Route, ...] = (*(it for it in rpcs() if it.method.name not in _LEFT_ALONE), *routes())

    async def attempt(self, count: int) -> None:
        """Make attempts until so many were looked up or answered."""
        weights = _weights(self._places)
        while (left := count - self.report.made.total()) > 0:
            await self._make(self._drawn(weights, min(_ATTEMPTS_A_HALF, left)))

    def _drawn(self, weights: Sequence[float], count: int) -> list[Rpc | Route]:
        """So many places in a random order, each as often as its weight says, rounded up or down by chance.

        Systematic sampling: none is left out by chance as where each is drawn for itself.
        """
        bounds = list(accumulate(weights))
        step = bounds[-1] / count
        first = self._chance.uniform(0.0, step)
        drawn = [self._places[bisect_right(bounds, first + place * step, hi=len(bounds) - 1)] for place in range(count)]
        self._chance.shuffle(drawn)
        return drawn

    async def reach(self) -> None:
        """Try what was not looked up yet, by itself."""
        for _ in range(_ROUNDS):
            left = self.unreached
            await self._make([it for it in self._places if _name(it) in left] * _OFTEN)

    @property
    def unreached(self) -> set[str]:
        """The RPCs that the owner of a tenant may call, and the routes, of which no attempt was looked up or answered."""
        asked = {_name(it) for it in self._places if isinstance(it, Route) or it.may_be_asked}
        return asked - self.report.places.keys()

    async def _make(self, places: Sequence[Rpc | Route]) -> None:
        if not places:
            return
        # A tenant that says a name may be told it: what it never says is held against it.
        known = self._treasure.half(self._chance)
        trier = Trier(known, self._owner, self._chance, self._rules, self._kinds)
        knocker = Knocker(known, self._owner, self._chance)
        batch = _Batch(await self._strangers(), sorted(known.secrets), self.report, self._refused, self._strangers)
        await _some_at_once(
            [
                batch.rpc(trier.attempt(it)) if isinstance(it, Rpc) else batch.route(it, knocker.attempt(it))
                for it in places
            ]
        )


def _name(place: Rpc | Route) -> str:
    return place.path if isinstance(place, Rpc) else named(place)


async def _some_at_once(work: Sequence[Awaitable[None]]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(step: Awaitable[None]) -> None:
        async with gate:
            await step

    await asyncio.gather(*map(one, work))


def _weights(places: Sequence[Rpc | Route]) -> list[float]:
    """How often each is drawn: the routes of HTTP have their share together."""
    rpc_weights = {it.path: _weight(it) for it in places if isinstance(it, Rpc)}
    route = sum(rpc_weights.values()) * _HTTP_SHARE / (1 - _HTTP_SHARE) / (len(places) - len(rpc_weights))
    return [rpc_weights[it.path] if isinstance(it, Rpc) else route for it in places]


def _weight(rpc: Rpc) -> float:
    if not rpc.may_be_asked:
        return _REFUSED_WEIGHT
    return _DEAR_WEIGHT if rpc.method.name in _DEAR else 1.0


def _is_unread(answer: Answered | Heard) -> bool:
    if isinstance(answer, Heard):
        return any(f'"code": "{reason.lower()}"' in answer.body for reason in _UNREAD)
    return answer.reason in _UNREAD


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
