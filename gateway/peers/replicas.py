"""Several generators as one: each watched, the request sent to one of them, and once to another before its first token.

Invariant: an answer is of one replica alone.  Once a token of it has been passed on, its failure is the answer's; before
that another one may answer, because the first failed or was silent for too long, and the answer's end says so.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import TypeVar

import grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from gateway.generation import Generated, Message, Opening, TextDelta, ToolUse
from gateway.generator import Engine, EngineState, GenerationRequest, PromptSize
from gateway.peers.generator import NAME, STATES, RemoteGenerator
from gateway.replicas.choice import Nearness, Replica, chosen
from gateway.replicas.ejection import Ejection
from gateway.replicas.hedging import Hedging
from gateway.replicas.known import EngineLoad, Known
from gateway.replicas.race import Parts, Race
from gateway.replicas.silence import Silence, Voices
from services.chassis.context import current_or_none
from services.chassis.errors import Code, Failure, Reason

Answered = TypeVar("Answered")
AsService = Callable[[], AbstractAsyncContextManager[object]]

_NEARNESS = {
    generator_pb2.TIER_SLOT: Nearness.SLOT,
    generator_pb2.TIER_MEMORY: Nearness.MEMORY,
    generator_pb2.TIER_FILE: Nearness.FILE,
}
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
# What says that a replica itself is broken; one that is only full, or starting, is not.
_FAULTS = {Reason.PEER_UNAVAILABLE, Reason.INTERNAL}
# What is no answer of the replica either way: whether it should have spoken by then is told by its silence.
_UNTOLD = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.CANCELLED}


class WatchedGenerator:
    """One replica: what it says of itself, and whether it fails."""

    def __init__(self, address: str, channel: grpc.aio.Channel, clock: Callable[[], float], voices: Voices) -> None:
        self.address = address
        self.channel = channel
        self.known = Known()
        self.ejection = Ejection(clock)
        self.silence = Silence(address, voices)
        self.generator = RemoteGenerator(channel)
        self.idle = asyncio.Event()
        self.idle.set()
        self._stub: generator_pb2_grpc.GeneratorServiceAsyncStub = generator_pb2_grpc.GeneratorServiceStub(channel)

    def view(self, version: str, base: str) -> Replica:
        """The replica as a choice sees it."""
        usable = self.known.takes_requests and self.ejection.usable and not self.silence.too_long
        return Replica(self.address, self.known.load, self.known.nearness(version, base), usable)

    async def watch(self, as_service: AsService, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Hear what changes there, for as long as the server lives."""
        seconds = _FIRST_PAUSE_SECONDS
        while True:
            try:
                async with as_service():
                    self.known.begin()
                    async for change in self._stub.WatchAdapters(generator_pb2.WatchAdaptersRequest()):
                        self._hear(change)
                        seconds = _FIRST_PAUSE_SECONDS
                self.known.lost()
            except grpc.aio.AioRpcError:
                self.known.lost()
            except Failure:
                # Our own credential is not there yet: that says nothing of the replica.
                pass
            await pause(seconds)
            seconds = min(seconds * 2, _LONGEST_PAUSE_SECONDS)

    def _hear(self, change: generator_pb2.WatchAdaptersResponse) -> None:
        if change.HasField("adapter"):
            nearness = _NEARNESS.get(change.adapter.tier, Nearness.REMOTE)
            self.known.adapter(change.adapter.version, nearness)
            self.silence.moved()
        if change.HasField("engine"):
            engine = change.engine
            state = STATES.get(engine.state, EngineState.UNSPECIFIED)
            if state is not self.known.state(engine.engine):
                self.silence.moved()
            answers = engine.running + engine.waiting
            load = EngineLoad(state, engine.base, engine.base_digest, engine.version, answers)
            self.known.engine(engine.engine, load)
        if change.caught_up:
            self.known.caught_up()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        """As Generator; an answer without an end is a failure."""
        self.known.outstanding += 1
        self.idle.clear()
        trial = self.ejection.sent()
        asked = self.silence.asked(awaited=_awaited())
        try:
            async with aclosing(self.generator.generate(request)) as parts:
                async for part in parts:
                    self.silence.spoke(asked)
                    self.ejection.spoke()
                    if isinstance(part, Generated):
                        self.ejection.succeeded()
                        yield part
                        return
                    yield part
            raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service=NAME)
        except Failure as failure:
            self._judge(failure)
            if failure.code not in _UNTOLD:
                self.silence.refused(asked)
            raise
        finally:
            # Whoever ended it: its deadline, its caller, or another replica that spoke first.
            if self.silence.ended(asked):
                self.ejection.kept_silent()
            self.known.outstanding -= 1
            if not self.known.outstanding:
                self.idle.set()
            self.ejection.ended(trial)

    async def ask(self, call: Callable[[RemoteGenerator], Awaitable[Answered]]) -> Answered:
        """One unary call."""
        trial = self.ejection.sent()
        try:
            answer = await call(self.generator)
            self.ejection.succeeded()
            return answer
        except Failure as failure:
            self._judge(failure)
            raise
        finally:
            self.ejection.ended(trial)

    def _judge(self, failure: Failure) -> None:
        if failure.reason in _FAULTS:
            self.ejection.failed()
        elif failure.code not in _UNTOLD:
            self.ejection.succeeded()


class ReplicatedGenerator:
    """Implements :class:`gateway.generator.Generator` over those that ``replicas`` names now.

    ``count`` hears of each hedge which replica answered (first, second, none), or that it was unaffordable.
    """

    def __init__(
        self,
        replicas: Callable[[], Sequence[WatchedGenerator]],
        hedging: Hedging,
        clock: Callable[[], float],
        count: Callable[[str], object] = lambda _: None,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._replicas = replicas
        self._hedging = hedging
        self._clock = clock
        self._count = count
        self._pause = pause
        self._draw = draw

    def _pick(self, version: str, base: str, key: str, tried: Sequence[str]) -> WatchedGenerator | None:
        there = {replica.address: replica for replica in self._replicas()}
        views = [replica.view(version, base) for replica in there.values()]
        address = chosen(views, key, self._draw, tried)
        return None if address is None else there[address]

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        """As the Protocol says; what fails, or says nothing for long, before its first token is asked of one other replica."""
        began = self._clock()
        first = self._require(self._pick(request.version, request.base, request.affinity, ()))
        second = partial(self._second, request, first.address)
        awaited = _awaited()
        race = Race(first.generate(request), second, self._clock, self._patience(request.base, awaited=awaited))
        heard = False
        try:
            async with aclosing(race.parts()) as parts:
                async for part in parts:
                    if not heard:
                        heard = True
                        if awaited:
                            self._hedging.heard(request.base, self._clock() - began)
                    yield part
        finally:
            if race.hedged:
                self._count("none" if not heard else "second" if race.second_answers else "first")

    def _patience(self, base: str, *, awaited: bool) -> Callable[[], Awaitable[object]] | None:
        """What waits until a first message is overdue; None where a replica's silence is borne."""
        # What a service does for somebody who does not wait for it is worth no second place.
        if not awaited or len(self._replicas()) == 1:
            return None
        self._hedging.came()
        seconds = self._hedging.patience_seconds(base)
        return None if seconds is None else partial(self._pause, seconds)

    def _second(self, request: GenerationRequest, first: str, failure: Failure | None) -> Parts | None:
        """The answer of another replica than the first; where that is only silent, of one that need load nothing for it."""
        if failure is not None:
            other = self._pick(request.version, request.base, request.affinity, (first,))
            return None if other is None else other.generate(request)
        there = {replica.address: replica for replica in self._replicas()}
        views = [replica.view(request.version, request.base) for replica in there.values()]
        ready = [view for view in views if view.usable and view.nearness >= Nearness.MEMORY]
        address = chosen(ready, "", self._draw, (first,))
        if address is None:
            return None
        if not self._hedging.afford():
            self._count("unaffordable")
            return None
        return there[address].generate(request)

    async def size(
        self, messages: Sequence[Message], base: str, version: str, tools: ToolUse | None = None
    ) -> PromptSize:
        """As the Protocol says, and as :class:`gateway.responses.counting.Measure`."""
        return await self._asked(lambda generator: generator.size(messages, base, version, tools), version, base)

    async def token_ids(
        self, prompt: Sequence[Message] | str, tools: ToolUse | None, base: str, version: str
    ) -> tuple[int, ...]:
        """As :class:`gateway.replaying.peers.Tokenizer`."""
        return await self._asked(lambda one: one.token_ids(prompt, tools, base, version), version, base)

    async def prepare(self, version: str) -> None:
        """As the Protocol says, at the replica that suits it best now: the request itself then goes where the version is."""
        await self._asked(lambda generator: generator.prepare(version), version, "")

    async def _asked(self, call: Callable[[RemoteGenerator], Awaitable[Answered]], version: str, base: str) -> Answered:
        tried: list[str] = []
        while True:
            replica = self._require(self._pick(version, base, "", tried))
            try:
                return await replica.ask(call)
            except Failure as failure:
                tried.append(replica.address)
                if not self._goes_on(failure, tried):
                    raise

    def _goes_on(self, failure: Failure, tried: Sequence[str]) -> bool:
        """Whether another replica is asked: once, and only where this one could not take the request."""
        others = any(replica.address not in tried for replica in self._replicas())
        return failure.code is Code.UNAVAILABLE and len(tried) == 1 and others

    def _require(self, replica: WatchedGenerator | None) -> WatchedGenerator:
        if replica is None:
            raise Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service=NAME)
        return replica

    async def engines(self) -> list[Engine]:
        """Those of every replica that can be reached."""
        return [engine for found in await self._of_all(RemoteGenerator.engines) for engine in found]

    async def resident_versions(self) -> frozenset[str]:
        """What any replica holds."""
        return frozenset().union(*await self._of_all(RemoteGenerator.resident_versions))

    async def _of_all(self, call: Callable[[RemoteGenerator], Awaitable[Answered]]) -> list[Answered]:
        """Raises the first failure when every replica fails."""
        asked = [replica.ask(call) for replica in self._replicas()]
        results = await asyncio.gather(*asked, return_exceptions=True)
        found = [result for result in results if not isinstance(result, BaseException)]
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not found or not isinstance(failure, Failure):
                raise failure
        return found


def _awaited() -> bool:
    """Whether somebody waits for the answer: a service that acts for a caller does what was accepted from them before."""
    caller = current_or_none()
    return caller is None or not caller.actor
