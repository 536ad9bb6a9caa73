"""How much of the gateway batches take, and whom a "later" of its keeps waiting.

Invariant: what the gateway's load asks for all heed; a limit of one tenant's, or a model of its that is not ready, holds
up that tenant's lines, or those of that model, and nobody else's: they wait without a place.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum, auto

# A line of what is not ready may hold its place for as long as the generator waits for room: then seldom.
_LONGEST_PAUSE_SECONDS = 300.0
_DOUBLINGS = 4
_REMEMBERED = 4096


class Whom(Enum):
    """Whom a "later" concerns: all lines, those of the tenant that was asked for, or those that also name its model."""

    EVERYBODY = auto()
    TENANT = auto()
    MODEL = auto()


class Activity:
    """Whether anything of a run goes on; else all that it has in hand waits for what is its own tenant's.

    The first of its parts is the run itself, from its beginning.
    """

    def __init__(self) -> None:
        self._going = 1

    @property
    def idle(self) -> bool:
        """Whether nothing goes on."""
        return self._going == 0

    @contextmanager
    def going(self) -> Iterator[None]:
        """One more part, which goes on unless it waits."""
        self._going += 1
        try:
            yield
        finally:
            self._going -= 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A part that goes on does not, inside the block."""
        self._going -= 1
        try:
            yield
        finally:
            self._going += 1


@dataclass(eq=False, slots=True)
class _Unready:
    """A model of a tenant's that is not ready: one line at a time tries it, and the more seldom the longer that lasts."""

    open_at: float = 0.0
    refusals: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Pace:
    """So many requests at once of all batches of a replica together, and none while the gateway asked for a pause."""

    def __init__(self, at_once: int, monotonic: Callable[[], float]) -> None:
        self._places = asyncio.Semaphore(at_once)
        # However many models are not ready, trying them leaves a place to others, where there is more than one.
        self._tries = asyncio.Semaphore(max(1, at_once - 1))
        self._monotonic = monotonic
        self._open_at = 0.0
        self._tenants: dict[str, float] = {}
        self._unready: dict[tuple[str, str], _Unready] = {}

    @asynccontextmanager
    async def place(self, tenant: str, model: str, activity: Activity) -> AsyncIterator[None]:
        """A place for one request, once nobody wants a pause of it.

        Another pause may be asked for meanwhile: whoever is told so asks once more, and is told again.
        """
        of = (tenant, model)
        async with AsyncExitStack() as held:
            while True:
                with activity.waiting():
                    await self._until(self._tenants.get(tenant, 0.0))
                    tries = await self._own_turn(of, held)
                await held.enter_async_context(self._places)
                if self._unready.get(of) in (None, tries):
                    break
                # It is not ready as has been told meanwhile: a place would be held for as long as that takes to be told again.
                await held.aclose()
            await self._until(self._open_at)
            yield

    async def _own_turn(self, of: tuple[str, str], held: AsyncExitStack) -> _Unready | None:
        """Wait for the turn to try what is not ready, which is returned; for anything else there is nothing to wait for."""
        while (unready := self._unready.get(of)) is not None:
            async with AsyncExitStack() as turn:
                await turn.enter_async_context(unready.turn)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, unready.open_at - self._monotonic())):
                        await unready.answered.wait()
                if self._unready.get(of) is unready:
                    await turn.enter_async_context(self._tries)
                    await held.enter_async_context(turn.pop_all())
                    return unready
        return None

    async def _until(self, at: float) -> None:
        left = at - self._monotonic()
        if left > 0:
            await asyncio.sleep(left)

    def waits(self, tenant: str, model: str) -> bool:
        """Whether a line of the tenant's that names the model has to wait for what is the tenant's own."""
        now, unready = self._monotonic(), self._unready.get((tenant, model))
        return self._tenants.get(tenant, 0.0) > now or (unready is not None and unready.open_at > now)

    def later(self, whom: Whom, seconds: float, tenant: str, model: str) -> None:
        """A line of a tenant's was told to come later: whoever that concerns asks nothing for so long, or for longer."""
        now = self._monotonic()
        if whom is Whom.EVERYBODY:
            self._open_at = max(self._open_at, now + seconds)
        elif whom is Whom.TENANT:
            self._tenants = {name: at for name, at in self._tenants.items() if at > now}
            self._tenants[tenant] = max(self._tenants.get(tenant, 0.0), now + seconds)
        else:
            self._put_off((tenant, model), seconds, now)

    def _put_off(self, of: tuple[str, str], seconds: float, now: float) -> None:
        unready = self._unready.pop(of, None) or _Unready()
        # Of two lines that were told so beside one another the second tells nothing new.
        if now >= unready.open_at:
            longer = min(seconds * 2.0**unready.refusals, max(seconds, _LONGEST_PAUSE_SECONDS))
            unready.open_at = now + longer
            unready.refusals = min(unready.refusals + 1, _DOUBLINGS)
        self._unready[of] = unready
        while len(self._unready) > _REMEMBERED:
            del self._unready[next(iter(self._unready))]

    def answered(self, tenant: str, model: str) -> None:
        """A line of the tenant's that names the model has its answer, so that one is ready."""
        unready = self._unready.pop((tenant, model), None)
        if unready is not None:
            unready.answered.set()
