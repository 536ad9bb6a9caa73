"""The models of one embedder side by side: which there are, by what names, and which are in memory.

A model is described from its folder's JSON, in the background, and loaded when somebody
first names it; one that cannot be had is listed with what is wrong, and costs the others
nothing.  Invariant: a model is loaded once, and a name means the first model that bears it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from services.chassis.errors import Failure, Reason
from services.embedder.model import EncoderFacts

Loaded = TypeVar("Loaded")


@dataclass(slots=True)
class Place(Generic[Loaded]):
    """One model of the settings, called ``called`` until its folder is known.

    ``facts`` says what its folder tells, with no element type until it is loaded; ``problem`` why that failed.
    """

    called: str
    describe: Callable[[], Awaitable[EncoderFacts]]
    load: Callable[[], Awaitable[tuple[EncoderFacts, Loaded]]]
    facts: EncoderFacts | None = None
    problem: Failure | None = None
    loaded: Loaded | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def known(self) -> EncoderFacts:
        """What its folder tells.  Raises MODEL_SOURCE_INVALID, and tries again when next asked."""
        async with self._lock:
            if self.facts is None:
                try:
                    self.facts = await self.describe()
                except Failure as failure:
                    self.problem = failure
                    raise
            return self.facts

    async def ready(self) -> Loaded:
        """The model in memory.  Raises what loading it raises, and tries again when next asked."""
        await self.known()
        async with self._lock:
            if self.loaded is None:
                try:
                    self.facts, self.loaded = await self.load()
                except Failure as failure:
                    self.problem = failure
                    raise
                self.problem = None
            return self.loaded


@dataclass(frozen=True, slots=True)
class Shelf(Generic[Loaded]):
    """The models, the default first."""

    places: tuple[Place[Loaded], ...]

    async def describe(self) -> None:
        """Come to know all models; what is wrong with one is kept in its place."""
        for place in self.places:
            await _tried(place)

    async def named(self, model: str) -> Place[Loaded] | None:
        """The model of this name or digest, the default for none; None where there is no such model.

        Raises MODEL_SOURCE_INVALID for one that is in the settings and cannot be had.
        """
        if not model:
            return self.places[0] if self.places else None
        for place in self.places:
            if place.facts is None and place.called == model:
                await place.known()
            elif place.facts is None and place.problem is None:
                await _tried(place)
            if place.facts is not None and model in (place.facts.name, place.facts.digest):
                return place
        return None

    async def require(self, model: str, others: Sequence[str] = ()) -> Loaded:
        """The model of this name or digest, in memory.

        Raises EMBEDDING_MODEL_NOT_FOUND, which names ``others`` beside those here, and MODEL_SOURCE_INVALID.
        """
        place = await self.named(model)
        if place is None:
            raise unknown(model, [*self.names(), *others])
        return await place.ready()

    def names(self) -> list[str]:
        """What the models are called."""
        return [place.facts.name if place.facts else place.called for place in self.places]


def unknown(model: str, known: Sequence[str], fate: str = "") -> Failure:
    """What is said of a name that means nothing here; ``fate`` goes on after it and tells what became of it."""
    listed = ", ".join(known)
    return Failure(Reason.EMBEDDING_MODEL_NOT_FOUND, name=model, fate=fate, known=listed, field="model")


async def _tried(place: Place[Loaded]) -> None:
    try:
        await place.known()
    except Failure as failure:
        # Known was asked for by nobody: who names the model is told.
        place.problem = failure
