"""The synchronous twin of `models`; part of `synchronous`."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trivium_client import nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.governance_face import GovernanceFace
from trivium_client.loop import Loop
from trivium_client.models import Models as AsyncModels
from trivium_client.serving_face import ServingFace


class Models(GovernanceFace, ServingFace):
    """See `trivium_client.models.Models`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop = loop
        self._inner: AsyncModels = inner.models

    def list(self, *, show_deleted: bool = False) -> Iterator[nouns.Model]:
        """Every model, by id."""
        return self._loop.iterate(self._inner.list(show_deleted=show_deleted))

    def get(self, model: str) -> nouns.Model:
        """One model."""
        return self._loop.run(self._inner.get(model))

    def versions(self, model: str, *, show_deleted: bool = False) -> Iterator[nouns.Version]:
        """A model's versions, newest first."""
        return self._loop.iterate(self._inner.versions(model, show_deleted=show_deleted))

    def version(self, version: str, *, model: str = "") -> nouns.Version:
        """One version by number, digest or prefix of it."""
        return self._loop.run(self._inner.version(version, model=model))

    def add_version(self, model: str, folder: str | Path, *, base_digest: str) -> nouns.Version:
        """Upload a LoRA adapter in PEFT's layout."""
        return self._loop.run(self._inner.add_version(model, folder, base_digest=base_digest))

    def add_folder(self, model: str, folder: str | Path, **options: Any) -> nouns.Version:
        """Upload a LoRA adapter, a full model or an encoder, whichever the folder holds."""
        return self._loop.run(self._inner.add_folder(model, folder, **options))

    def import_model(self, uri: str, model: str, **options: Any) -> nouns.Version:
        """Have the registry import hf:ORG/NAME@REVISION, or file:PATH of its machine."""
        return self._loop.run(self._inner.import_model(uri, model, **options))

    def merge(self, version: str, *, model: str, into: str, **options: Any) -> nouns.Version:
        """Bake an adapter into its base: a full version of the model `into`."""
        return self._loop.run(self._inner.merge(version, model=model, into=into, **options))

    def base_digest(self, name: str) -> str:
        """The digest of a base by name."""
        return self._loop.run(self._inner.base_digest(name))

    def download(
        self,
        version: str,
        folder: str | Path,
        *,
        model: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> nouns.Version:
        """Write a version's files into a folder."""
        return self._loop.run(self._inner.download(version, folder, model=model, progress=progress))

    def lineage(self, version: str, *, model: str = "") -> Sequence[nouns.Version]:
        """The version, the one that it was trained from, and so on to the base."""
        return self._loop.run(self._inner.lineage(version, model=model))

    def aliases(self, model: str = "") -> Iterator[nouns.Alias]:
        """A model's aliases; all of the tenant's without one."""
        return self._loop.iterate(self._inner.aliases(model))

    def alias(self, model: str, alias: str = "prod") -> nouns.Alias:
        """One alias."""
        return self._loop.run(self._inner.alias(model, alias))

    def set_alias(self, model: str, version: str, **options: Any) -> nouns.Alias:
        """Give an alias a new target."""
        return self._loop.run(self._inner.set_alias(model, version, **options))

    def roll_back(self, model: str, alias: str = "prod", *, reason: str = "") -> nouns.Alias:
        """Give an alias the version that served before its last move."""
        return self._loop.run(self._inner.roll_back(model, alias, reason=reason))

    def delete_alias(self, model: str, alias: str, *, etag: str = "", reason: str = "") -> None:
        """Delete an alias; its versions stay."""
        self._loop.run(self._inner.delete_alias(model, alias, etag=etag, reason=reason))

    def wait_alias(self, model: str, alias: str = "prod") -> nouns.Alias:
        """Return the alias once its target serves or has failed."""
        return self._loop.run(self._inner.wait_alias(model, alias))

    def alias_moves(self, model: str, alias: str = "prod") -> Iterator[nouns.AliasMove]:
        """What happened to an alias, newest first."""
        return self._loop.iterate(self._inner.alias_moves(model, alias))
