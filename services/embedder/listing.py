"""Which models there are for whoever asks: the deployment's, and beside them its tenant's own.

Invariant: a name means here what it means where texts are embedded and passages ranked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.chassis.errors import Code, Failure
from services.embedder.embedding import Asking, EncodingModel
from services.embedder.own_models import Listed
from services.embedder.own_versions import OwnVersion
from services.embedder.reranking import PairModel
from services.embedder.shelf import Place, Shelf


class Own(Protocol):
    """Models that tenants have in the registry."""

    async def find(self, asking: Asking, name: str, known: Sequence[str]) -> OwnVersion:
        """What a name means to the tenant.  Raises EMBEDDING_MODEL_NOT_FOUND, MODEL_SOURCE_INVALID, PEER_UNAVAILABLE."""

    async def listed(self, asking: Asking) -> list[Listed]:
        """The tenant's, the newest first, at most a hundred.  Raises PEER_UNAVAILABLE."""

    def known(self, asking: Asking, version: OwnVersion) -> Listed:
        """A version of the tenant's as it is listed."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models; ``problem`` says why the tenant's own are missing."""

    encoders: tuple[Place[EncodingModel], ...]
    pairs: tuple[Place[PairModel], ...]
    own: tuple[Listed, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Models:
    """The verbs."""

    encoders: Shelf[EncodingModel]
    pairs: Shelf[PairModel]
    own: Own

    async def listed(self, asking: Asking | None) -> Catalogue:
        """The deployment's models, and with somebody who asks those of their tenant as well."""
        encoders, pairs = self.encoders.places, self.pairs.places
        if asking is None:
            return Catalogue(encoders, pairs)
        try:
            return Catalogue(encoders, pairs, tuple(await self.own.listed(asking)))
        except Failure as failure:
            if failure.code is not Code.UNAVAILABLE:
                raise
            return Catalogue(encoders, pairs, (), failure.sentence)

    async def meant(self, asking: Asking, name: str) -> Catalogue:
        """The one model that a name or digest means, an encoder before a cross-encoder.

        Raises EMBEDDING_MODEL_NOT_FOUND, MODEL_SOURCE_INVALID, ALIAS_NOT_SERVING, PEER_UNAVAILABLE.
        """
        encoder = await self.encoders.named(name)
        if encoder is not None:
            await encoder.known()
            return Catalogue((encoder,), ())
        pairs = await self.pairs.named(name)
        if pairs is not None:
            await pairs.known()
            return Catalogue((), (pairs,))
        version = await self.own.find(asking, name, [*self.encoders.names(), *self.pairs.names()])
        return Catalogue((), (), (self.own.known(asking, version),))
