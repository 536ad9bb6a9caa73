"""What the names of models stand on.  Every method raises Failure; who is away names itself."""

from typing import Protocol

from gateway.embeddings.embedding import EmbeddingModel
from gateway.generator import Engine
from gateway.routing import FullVersion, Route, ServedAlias


class Registry(Protocol):
    """The registry, as far as names are listed, looked up and deleted."""

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        """What a name means now, for whom.  Raises MODEL_NOT_FOUND with the nearest name, ALIAS_NOT_SERVING."""

    async def aliases(self) -> list[ServedAlias]:
        """The aliases of the caller's tenant that serve a version, but those of encoders: they answer nothing."""

    async def full_versions(self) -> list[FullVersion]:
        """The versions of the caller's tenant that are full models: what ``base:NAME`` may mean."""

    async def delete_alias(self, model: str, alias: str) -> None:
        """Delete it; the versions stay.  Raises ALIAS_NOT_FOUND, ROLE_MISSING."""

    async def delete_version(self, model: str, version: str) -> None:
        """Delete it; what runs on it finishes.  Raises VERSION_NOT_FOUND, VERSION_IN_USE, ROLE_MISSING."""


class Engines(Protocol):
    """The generator, as far as it tells of its engines."""

    async def engines(self) -> list[Engine]:
        """The engines, the default base's first."""


class Encoders(Protocol):
    """The embedder, as far as it tells of its models."""

    async def models(self) -> list[EmbeddingModel]:
        """The deployment's, then those of the caller's tenant."""


class Chooser(Protocol):
    """Who chooses for ``auto``."""

    async def any(self) -> bool:
        """Whether the caller's tenant has anything to choose from."""
