"""The encoders of tenants that are in memory: loaded when named, so many at a time, the longest unused unloaded.

A tenant's model is its own in memory too: of the same bytes published by two tenants the
folder is one, and nothing else, so what one of them loads or asks is nothing to the other.
Room is taken from the tenant that has most, so that one which names many unloads its own.
Invariants: what somebody computes with is never unloaded; a model is loaded once however
many wait for it, and whoever of them goes away; without the registry what is in memory
answers on, by digest, to the tenant that the registry told it was there.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from services.chassis.errors import Code, Failure, Reason
from services.embedder.embedding import Asking, EncodingModel
from services.embedder.own_versions import OwnVersion, OwnVersions, Role, Unfit
from services.embedder.reranking import PairModel
from services.embedder.shelf import unknown

_GIB = 1 << 30
_PATIENCE_SECONDS = 10.0
# The registry said nothing: it is away, or too slow.
_AWAY = (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory behind its queue, and what takes both away."""

    model: EncodingModel | PairModel
    unload: Callable[[], None]


Load = Callable[[OwnVersion], Coroutine[Any, Any, Loaded]]


@dataclass(frozen=True, slots=True)
class Room:
    """How many models of tenants', and what their files may have together."""

    models: int
    size_bytes: int


@dataclass(slots=True, eq=False)
class _Seat:
    """One tenant's model, in memory or on its way there."""

    tenant: str
    size_bytes: int
    loading: "asyncio.Task[Loaded]"
    users: int = 0
    used_at: float = 0.0

    @property
    def loaded(self) -> Loaded | None:
        """The model, once it is there."""
        done = self.loading.done() and not self.loading.cancelled() and self.loading.exception() is None
        return self.loading.result() if done else None


@dataclass(frozen=True, slots=True)
class Listed:
    """An encoder of a tenant's as it is listed; ``loaded`` where it is in memory."""

    version: OwnVersion | Unfit
    loaded: EncodingModel | PairModel | None


@dataclass(slots=True)
class OwnModels:
    """Implements ``embedding.OwnEncoders`` and ``reranking.OwnRankers``.  ``monotonic`` in seconds."""

    versions: OwnVersions
    load: Load
    room: Room
    monotonic: Callable[[], float]
    patience_seconds: float = _PATIENCE_SECONDS
    # By tenant and digest of the folder.
    _seats: dict[tuple[str, str], _Seat] = field(default_factory=dict)
    _freed: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def encoder(self, asking: Asking, name: str, known: Sequence[str]) -> AsyncIterator[EncodingModel]:
        """As the Protocol says; also raises FIELD_INVALID for a reranker."""
        own = await self.find(asking, name, known)
        if own.role is not Role.EMBEDDER:
            problem = f"{own.facts.name} is a reranker, and gives texts no vectors; name it where passages are ranked"
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        async with self._using(asking.tenant, own) as model:
            assert isinstance(model, EncodingModel)
            yield model

    @asynccontextmanager
    async def ranker(self, asking: Asking, name: str, known: Sequence[str]) -> AsyncIterator[EncodingModel | PairModel]:
        """As the Protocol says."""
        own = await self.find(asking, name, known)
        async with self._using(asking.tenant, own) as model:
            yield model

    async def find(self, asking: Asking, name: str, known: Sequence[str]) -> OwnVersion:
        """What a name means to the tenant.  Raises as :meth:`OwnVersions.find`."""
        try:
            return await self.versions.find(asking, name, known)
        except Failure as failure:
            last = self.versions.believed(asking, name) if failure.code in _AWAY else None
            if last is None or self._present(asking.tenant, last) is None:
                if failure.reason is Reason.EMBEDDING_MODEL_NOT_FOUND:
                    self._forget(asking.tenant, name)
                raise
            # Asked again after a while: waiting for a registry that is away takes its time.
            self.versions.believe(asking.tenant, last.files.digest, last)
            return last

    async def listed(self, asking: Asking) -> list[Listed]:
        """The tenant's encoders, the newest first, at most a hundred.  Raises PEER_UNAVAILABLE."""
        return [self.known(asking, version) for version in await self.versions.listed(asking)]

    def known(self, asking: Asking, version: OwnVersion | Unfit) -> Listed:
        """A version of the tenant's as it is listed."""
        return Listed(version, self._present(asking.tenant, version))

    def held(self) -> int:
        """Models that are in memory, or on their way there."""
        return len(self._seats)

    async def close(self) -> None:
        """End what is being loaded."""
        tasks = [seat.loading for seat in self._seats.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _present(self, tenant: str, own: OwnVersion | Unfit) -> EncodingModel | PairModel | None:
        seat = self._seats.get((tenant, own.files.digest))
        return seat.loaded.model if seat is not None and seat.loaded is not None else None

    @asynccontextmanager
    async def _using(self, tenant: str, own: OwnVersion) -> AsyncIterator[EncodingModel | PairModel]:
        """The model in memory; not unloaded inside the block."""
        seat = await self._taken(tenant, own)
        try:
            model = (await asyncio.shield(seat.loading)).model
            # Two versions of the same bytes are one model under two names.
            yield (
                model
                if model.facts.name == own.facts.name
                else replace(model, facts=replace(model.facts, name=own.facts.name))
            )
        finally:
            seat.users -= 1
            seat.used_at = self.monotonic()
            self._freed.set()

    async def _taken(self, tenant: str, own: OwnVersion) -> _Seat:
        """A seat with one user more.  Raises MODEL_SOURCE_INVALID for one too large, NOT_READY when all are in use."""
        if own.files.size_bytes > self.room.size_bytes:
            problem = (
                f"its files have {own.files.size_bytes / _GIB:.2f} GiB, and tenants' models may have "
                f"{self.room.size_bytes / _GIB:.2f} together (TRIVIUM_EMBEDDER_TENANT_MODELS_GIB)"
            )
            name = own.facts.name
            raise Failure(Reason.MODEL_SOURCE_INVALID, uri=name, name=name, problem=problem)
        try:
            async with asyncio.timeout(self.patience_seconds):
                while (seat := self._at_once(tenant, own)) is None:
                    self._freed.clear()
                    await self._freed.wait()
                return seat
        except TimeoutError:
            why = f"the {len(self._seats)} models of tenants' own that it keeps in memory are all in use"
            raise Failure(Reason.NOT_READY, retry_after_seconds=1.0, service="embedder", why=why) from None

    def _at_once(self, tenant: str, own: OwnVersion) -> _Seat | None:
        """A seat with one user more, if there is one or room can be made; what begins to be unloaded is gone."""
        key = (tenant, own.files.digest)
        seat = self._seats.get(key)
        if seat is None:
            while not self._fits(own.files.size_bytes):
                victim = self._victim()
                if victim is None:
                    return None
                self._unload(victim)
            loading = asyncio.create_task(self.load(own), name=f"load {own.files.digest}")
            seat = self._seats[key] = _Seat(tenant, own.files.size_bytes, loading)
            loading.add_done_callback(lambda _: self._settled(key))
        seat.users += 1
        return seat

    def _settled(self, key: tuple[str, str]) -> None:
        """It is loaded; or it is not, then the next who names it tries again."""
        seat = self._seats.get(key)
        if seat is not None and seat.loading.done() and seat.loaded is None:
            del self._seats[key]
        self._freed.set()

    def _fits(self, size_bytes: int) -> bool:
        held = sum(seat.size_bytes for seat in self._seats.values())
        return len(self._seats) < self.room.models and held + size_bytes <= self.room.size_bytes

    def _victim(self) -> tuple[str, str] | None:
        """The longest unused of the tenant that has most of those that nobody uses."""
        idle = [key for key, seat in self._seats.items() if not seat.users and seat.loading.done()]
        having = Counter(tenant for tenant, _ in self._seats)
        return max(idle, key=lambda key: (having[key[0]], -self._seats[key].used_at), default=None)

    def _unload(self, key: tuple[str, str]) -> None:
        seat = self._seats.pop(key)
        if seat.loaded is not None:
            seat.loaded.unload()

    def _forget(self, tenant: str, digest: str) -> None:
        """What the registry no longer has needs no room."""
        seat = self._seats.get((tenant, digest))
        if seat is not None and not seat.users and seat.loading.done():
            self._unload((tenant, digest))


@dataclass(frozen=True, slots=True)
class NoOwnModels:
    """Where no registry is, or tenants' models are given no room: only the deployment's are served."""

    why: str

    @asynccontextmanager
    async def encoder(self, asking: Asking, name: str, known: Sequence[str]) -> AsyncIterator[EncodingModel]:
        """Raises EMBEDDING_MODEL_NOT_FOUND, which says why."""
        raise unknown(name, known, f" ({self.why})")
        yield

    @asynccontextmanager
    async def ranker(self, asking: Asking, name: str, known: Sequence[str]) -> AsyncIterator[EncodingModel | PairModel]:
        """Raises EMBEDDING_MODEL_NOT_FOUND, which says why."""
        raise unknown(name, known, f" ({self.why})")
        yield

    async def find(self, asking: Asking, name: str, known: Sequence[str]) -> OwnVersion:
        """Raises EMBEDDING_MODEL_NOT_FOUND, which says why."""
        raise unknown(name, known, f" ({self.why})")

    async def listed(self, asking: Asking) -> list[Listed]:
        """Nothing."""
        return []

    def known(self, asking: Asking, version: OwnVersion | Unfit) -> Listed:
        """A version that is not in memory."""
        return Listed(version, None)
