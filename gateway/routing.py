"""From a model name to the version that answers, once a request.

Invariant: within one request an alias is looked up exactly once; every later step knows
only the digest, so an alias that moves meanwhile cannot mix two versions in one answer.
"""

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from gateway.auto.choosing import Choice, Chooser
from gateway.generation import Fallback
from gateway.generator import EngineState, Generator
from gateway.limits.gate import left
from gateway.names import AUTO, BASE, canonical, model_of
from services.chassis.context import current
from services.chassis.errors import Failure, Reason

# As a name of a fallback: none, whatever the model's owner says.
NO_FALLBACK = "none"
_LONGEST_CHAIN = 3
# What says that a version cannot answer here, whoever asks; a request at fault, and a queue that is full, do not.
CANNOT_SERVE = frozenset(
    {
        Reason.ALIAS_NOT_SERVING,
        Reason.ANSWER_NOT_FINITE,
        Reason.BASE_MISMATCH,
        Reason.BASE_NOT_FOUND,
        Reason.ENGINE_TOO_LARGE,
        Reason.NOT_READY,
        Reason.TEMPLATE_MISMATCH,
        Reason.VERSION_NOT_FOUND,
        Reason.WEIGHTS_REFUSED,
    }
)


class ModelKind(Enum):
    """What a name means."""

    UNSPECIFIED = "unspecified"
    BASE = "base"
    ADAPTER = "adapter"
    FULL = "full"
    ENCODER = "encoder"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.  ``version`` and ``base_digest`` are sha256:…, empty for the base itself.

    ``canary`` says that the version is one that its alias tries, not the one that it serves.  ``fallback`` names what
    answers where the version cannot; ``fallbacks`` is what was left on the way here, each with its reason.  ``prompt_format`` is
    the shape of the prompts with sources that it was trained on, empty where it says none.
    """

    requested: str
    resolved: str
    kind: ModelKind
    version: str = ""
    base: str = ""
    base_digest: str = ""
    alias: str = ""
    number: int = 0
    canary: bool = False
    fallback: str = ""
    fallbacks: tuple[Fallback, ...] = ()
    prompt_format: str = ""

    @property
    def model(self) -> str:
        """The model that answers, as limits and prices name it."""
        return model_of(self.resolved)


@dataclass(frozen=True, slots=True)
class ServedAlias:
    """An alias that serves ``version`` since ``update_time_seconds`` (Unix time)."""

    model: str
    alias: str
    version: str
    update_time_seconds: int


@dataclass(frozen=True, slots=True)
class FullVersion:
    """A version of a full model of the caller's tenant, since ``create_time_seconds`` (Unix time)."""

    model: str
    version: str
    create_time_seconds: int


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One name that ``model`` accepts, and what it means now; ``dimensions`` is the length of an encoder's vectors."""

    name: str
    kind: ModelKind
    version: str = ""
    create_time_seconds: int = 0
    base_digest: str = ""
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a request would go, why, and which engines hold it now; ``choice`` only for ``auto``."""

    route: Route
    reason: str
    engines: tuple[str, ...]
    model: ServedModel
    choice: Choice | None = None


class Registry(Protocol):
    """The registry as the gateway uses it.  Raises Failure; an unreachable one names itself."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        """What a name means now, for whom.  Raises MODEL_NOT_FOUND with the nearest name, ALIAS_NOT_SERVING."""


class Router:
    """Resolves and explains model names."""

    def __init__(self, registry: Registry, generator: Generator, chooser: Chooser) -> None:
        self._registry = registry
        self._generator = generator
        self._chooser = chooser

    async def resolve(self, name: str, sticky_key: str = "", question: str = "", fallback: str = "") -> Route:
        """The route of a request.  The base needs no registry: nothing about it can move.

        ``question`` is what ``auto`` goes by; a ``fallback`` counts before that of the model's owner.  Raises as ``Registry.resolve``, FIELD_INVALID for an encoder.  Without a
        ``sticky_key`` whoever holds the key that asks stays with one version of an alias that has canaries.
        """
        requested = canonical(name)
        if requested == AUTO:
            choice = await self._chooser.choose(question)
            return replace(await self._or_fallback(choice.model, sticky_key, fallback), requested=AUTO)
        return await self._or_fallback(requested, sticky_key, fallback)

    async def _or_fallback(self, requested: str, sticky_key: str, fallback: str) -> Route:
        try:
            route = await self._named(requested, sticky_key)
        except Failure as failure:
            declared = fallback or failure.variables.get("fallback", "")
            unserved = _unserved(requested, requested, declared)
            if not falls_back(failure, unserved):
                raise
            return await self.fall_back(unserved, failure, sticky_key)
        return replace(route, fallback=fallback or route.fallback)

    async def fall_back(self, route: Route, failure: Failure, sticky_key: str = "") -> Route:
        """Where a request goes instead of a route that cannot serve it, under the name that it asked for.

        A fallback that serves nothing itself is left for its own, each step told; the limits of what is left hold the
        request no longer.  Raises as ``resolve`` where the last one's name means nothing that serves.
        """
        left()
        while True:
            name = canonical(route.fallback)
            told = (*route.fallbacks, Fallback("route", route.fallback, f"{route.resolved}: {failure.sentence}"))
            try:
                further = await self._named(name, sticky_key)
            except Failure as another:
                route = _unserved(route.requested, name, another.variables.get("fallback", ""), told)
                if not falls_back(another, route):
                    raise
                failure = another
            else:
                return replace(further, requested=route.requested, fallbacks=told)

    async def _named(self, requested: str, sticky_key: str) -> Route:
        if requested == BASE:
            return Route(requested, BASE, ModelKind.BASE)
        route = await self._registry.resolve(requested, sticky_key or current().principal_id)
        if route.kind is ModelKind.ENCODER:
            problem = f"{requested} is an encoder, which answers nothing; name a model of text (ListModels has them)"
            raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)
        return route

    async def explain(self, name: str, sticky_key: str = "", question: str = "") -> Explanation:
        """Where a request for ``name`` would go now, without sending it."""
        if canonical(name) == AUTO:
            choice = await self._chooser.choose(question)
            found = await self._explained(await self._named(choice.model, sticky_key))
            model = replace(found.model, name=AUTO, kind=ModelKind.AUTO)
            reason = f"{choice.reason} {found.reason}"
            return replace(found, reason=reason, model=model, choice=choice)
        return await self._explained(await self._named(canonical(name), sticky_key))

    async def _explained(self, route: Route) -> Explanation:
        engines, resident = await asyncio.gather(self._generator.engines(), self._generator.resident_versions())
        # The first engine is the default base's; another base, or a full model, has one of its own.
        named = (engine.base_digest for engine in engines if not route.base or engine.base == route.base)
        digest = route.base_digest or next(named, "")
        ready = [item for item in engines if item.state is EngineState.READY and item.base_digest == digest]
        holding = ready if route.kind is not ModelKind.ADAPTER or route.version in resident else []
        model = ServedModel(route.requested, route.kind, route.version, base_digest=digest)
        return Explanation(route, _reason(route, bool(holding)), tuple(item.engine for item in holding), model)


def _unserved(requested: str, name: str, fallback: str, told: tuple[Fallback, ...] = ()) -> Route:
    """A route to a name that means nothing that serves."""
    return Route(requested, name, ModelKind.UNSPECIFIED, fallback=fallback, fallbacks=told)


def falls_back(failure: Failure, route: Route) -> bool:
    """Whether another model is to answer: the route's version cannot, and the route says which one can."""
    declared = route.fallback not in ("", NO_FALLBACK)
    return declared and failure.reason in CANNOT_SERVE and len(route.fallbacks) < _LONGEST_CHAIN


def _reason(route: Route, held: bool) -> str:
    if route.kind is ModelKind.BASE:
        return "The name means the base itself; no adapter is applied."
    number = f" (number {route.number})" if route.number else ""
    if route.canary:
        meaning = f"The alias {route.alias} tries this version{number} as a canary, for this caller too."
    elif route.alias:
        meaning = f"The alias {route.alias} serves this version{number}."
    else:
        meaning = f"The name names this version{number} itself."
    if route.kind is ModelKind.FULL:
        return meaning if held else f"{meaning} Its engine does not run: the first request starts it and waits for it."
    return meaning if held else f"{meaning} No engine holds it yet: the first request loads it."
