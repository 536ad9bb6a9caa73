"""The names that ``model`` accepts: listed, looked up, and deleted.

Invariant: names are the registry's to tell.  What generator and embedder add to them is left out while they are away, and
it is told who is.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.embeddings.embedding import EmbeddingModel
from gateway.generator import Engine
from gateway.models.peers import Chooser, Encoders, Engines, Registry
from gateway.names import AUTO, BASE, base_name, canonical, is_base, served_name
from gateway.routing import FullVersion, ModelKind, Route, ServedAlias, ServedModel
from services.chassis.context import current
from services.chassis.errors import Failure, Reason

# Names are described side by side, but not so many at once that the registry feels a listing.
_CONCURRENT_LOOKUPS = 16
# What says that a peer cannot be asked now, or is of a version that cannot be asked this.
_AWAY = frozenset({Reason.NOT_READY, Reason.NOT_YET_AVAILABLE, Reason.PEER_UNAVAILABLE})
# What was listed a moment ago and has been deleted since.
_GONE = frozenset({Reason.FIELD_INVALID, Reason.MODEL_NOT_FOUND, Reason.VERSION_NOT_FOUND})
_OURS = "{name} is the deployment's own and cannot be deleted; what a tenant trained or brought can"
_A_BASE = (
    "{name} is a base, which means whichever version there is now; delete {version}, the one that it means, by its name"
)
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Listing:
    """The names, bases first, the default before others, encoders last; ``unreachable`` are the services that something is missing of."""

    models: tuple[ServedModel, ...]
    unreachable: tuple[str, ...] = ()


class Naming:
    """Knows every name of the caller's tenant."""

    def __init__(self, registry: Registry, generator: Engines, embedder: Encoders, chooser: Chooser) -> None:
        self._registry = registry
        self._generator = generator
        self._embedder = embedder
        self._chooser = chooser

    async def models(self) -> Listing:
        """What ``model`` may name; ``auto`` where it has anything to choose from.  Raises PEER_UNAVAILABLE for the registry."""
        unreachable: list[str] = []
        engines, encoders, aliases, versions, choosable = await asyncio.gather(
            _or_none("generator", self._generator.engines(), unreachable),
            _or_none("embedder", self._embedder.models(), unreachable),
            self._registry.aliases(),
            self._registry.full_versions(),
            self._chooser.any(),
        )
        gate = asyncio.Semaphore(_CONCURRENT_LOOKUPS)
        described = await asyncio.gather(
            *(self._base(name, digest, versions, gate) for name, digest in _further_bases(engines, versions).items()),
            *(self._served(alias, gate) for alias in aliases),
        )
        answering = [model for model in described if model is not None]
        auto = [ServedModel(AUTO, ModelKind.AUTO)] if choosable else []
        usable = [_encoder(it.name, it) for it in encoders if not it.problem]
        base = ServedModel(BASE, ModelKind.BASE, base_digest=engines[0].base_digest if engines else "")
        return Listing((base, *answering, *auto, *usable), tuple(sorted(unreachable)))

    async def _base(
        self, name: str, digest: str, versions: Sequence[FullVersion], gate: asyncio.Semaphore
    ) -> ServedModel | None:
        """A further base as the registry knows it; the ``digest`` of the deployment's is the generator's to tell."""
        route = await self._or_gone(base_name(name), gate)
        if route is None:
            return None
        since = {item.version: item.create_time_seconds for item in versions}.get(route.version, 0)
        return ServedModel(base_name(name), route.kind, route.version, since, route.base_digest or digest)

    async def _served(self, alias: ServedAlias, gate: asyncio.Semaphore) -> ServedModel | None:
        # By version, not by alias: a flip between the two calls must not mix two versions in one line.
        route = await self._or_gone(f"{alias.model}@{alias.version}", gate)
        if route is None:
            return None
        name = served_name(alias.model, alias.alias)
        return ServedModel(name, route.kind, alias.version, alias.update_time_seconds, route.base_digest)

    async def _or_gone(self, name: str, gate: asyncio.Semaphore) -> Route | None:
        """What a name that was listed means; None where it means nothing any more."""
        try:
            async with gate:
                return await self._registry.resolve(name)
        except Failure as failure:
            if failure.reason not in _GONE:
                raise
            return None

    async def model(self, name: str) -> ServedModel:
        """What one name means now.  Raises MODEL_NOT_FOUND with the nearest name, ALIAS_NOT_SERVING."""
        wanted = canonical(name)
        if wanted == AUTO:
            return ServedModel(AUTO, ModelKind.AUTO)
        route = await self._route(wanted)
        if isinstance(route, EmbeddingModel):
            return _encoder(wanted, route)
        if route.kind is ModelKind.ENCODER:
            same = [it for it in await _or_none("embedder", self._embedder.models(), []) if it.version == route.version]
            dimensions = same[0].dimensions if same else 0
            return ServedModel(wanted, ModelKind.ENCODER, route.version, dimensions=dimensions)
        # The first engine is the default base's; another base, or a full model, has one of its own.
        engines = await _or_none("generator", self._generator.engines(), [])
        named = (engine.base_digest for engine in engines if not route.base or engine.base == route.base)
        return ServedModel(wanted, route.kind, route.version, base_digest=route.base_digest or next(named, ""))

    async def delete(self, name: str) -> None:
        """Delete what a name means: a version, or an alias, whose versions stay.

        Raises MODEL_NOT_FOUND and as ``Registry`` does, FIELD_INVALID for what is the deployment's, and for a base of the
        tenant's own: whoever names it may not know which of its versions that is.
        """
        wanted = canonical(name)
        route = None if wanted == AUTO else await self._route(wanted)
        if route is None or isinstance(route, EmbeddingModel) or route.kind is ModelKind.BASE:
            raise Failure(Reason.FIELD_INVALID, field="model", problem=_OURS.format(name=wanted))
        model = route.resolved.partition("@")[0]
        if is_base(wanted):
            problem = _A_BASE.format(name=wanted, version=f"{model}@{route.number}")
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        if route.alias:
            await self._registry.delete_alias(model, route.alias)
        else:
            await self._registry.delete_version(model, route.version)

    async def _route(self, name: str) -> Route | EmbeddingModel:
        """What the registry knows the name as, else the deployment's encoder of that name."""
        if name == BASE:
            return Route(name, BASE, ModelKind.BASE)
        try:
            return await self._registry.resolve(name, current().principal_id)
        except Failure as failure:
            if failure.reason is not Reason.MODEL_NOT_FOUND:
                raise
            encoders = await _or_none("embedder", self._embedder.models(), [])
            found = next((it for it in encoders if it.name == name and not it.problem), None)
            if found is None:
                raise
            return found


def _further_bases(engines: Sequence[Engine], versions: Sequence[FullVersion]) -> dict[str, str]:
    """The names of bases beside the default one, the deployment's first, each with its digest if the generator tells it.

    A full model's name is the tenant's own, and takes none of the deployment's away.
    """
    own = {engine.base: engine.base_digest for engine in engines if not engine.model}
    further = {name: digest for name, digest in own.items() if name != engines[0].base}
    return {**further, **dict.fromkeys(sorted({item.model for item in versions} - own.keys()), "")}


def _encoder(name: str, encoder: EmbeddingModel) -> ServedModel:
    return ServedModel(name, ModelKind.ENCODER, encoder.version, dimensions=encoder.dimensions)


async def _or_none(service: str, asked: Awaitable[list[_Item]], unreachable: list[str]) -> Sequence[_Item]:
    """What a peer tells; nothing where it is away, which ``unreachable`` then says."""
    try:
        return await asked
    except Failure as failure:
        if failure.reason not in _AWAY:
            raise
        unreachable.append(service)
        return []
