"""The SDK for ordinary code: the asynchronous one, driven on an event loop in a thread of its own.

Invariant: no call is implemented here; each face hands over to its asynchronous twin,
so the two cannot differ.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from trivium_client import answers, nouns
from trivium_client.asynchronous import AsyncTrivium
from trivium_client.connection import Connection
from trivium_client.governance_face import GovernanceFace
from trivium_client.loop import Loop
from trivium_client.models import Models as AsyncModels


class Trivium:
    """One constructor that reads the environment; `with` closes the channels.

    `addresses` maps service names to host:port, `data_dir` is a local suite's folder; see
    `Connection.settled` for what is read when they are not given.
    """

    def __init__(
        self,
        *,
        api_key: str | None = None,
        addresses: Mapping[str, str] | None = None,
        data_dir: str | Path | None = None,
    ) -> None:
        self._closed = False
        self._loop = Loop()
        # A channel belongs to the loop that it was made on.
        self._inner = self._loop.run(_made(api_key, addresses, data_dir))
        self.connection: Connection = self._inner.connection
        self.collections = Collections(self._loop, self._inner)
        self.docs = Documents(self._loop, self._inner)
        self.data = Datasets(self._loop, self._inner)
        self.jobs = Jobs(self._loop, self._inner)
        self.models = Models(self._loop, self._inner)
        self.keys = Keys(self._loop, self._inner)
        self.tenants = Tenants(self._loop, self._inner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        try:
            self._loop.run(self._inner.close())
        finally:
            self._loop.stop()

    def ask(self, question: str, **options: Any) -> Iterator[answers.Part]:
        """See `AsyncTrivium.ask`."""
        return self._loop.iterate(self._inner.ask(question, **options))

    def chat(self, messages: Iterable[answers.Message], **options: Any) -> Iterator[answers.Part]:
        """See `AsyncTrivium.chat`."""
        return self._loop.iterate(self._inner.chat(messages, **options))

    def answer(self, question: str, **options: Any) -> answers.Answer:
        """`ask`, whole."""
        return self._loop.run(self._inner.answer(question, **options))

    def reply(self, messages: Iterable[answers.Message], **options: Any) -> answers.Answer:
        """`chat`, whole."""
        return self._loop.run(self._inner.reply(messages, **options))

    def receipt(self, request_id: str) -> answers.Receipt:
        """See `AsyncTrivium.receipt`."""
        return self._loop.run(self._inner.receipt(request_id))


async def _made(api_key: str | None, addresses: Mapping[str, str] | None, data_dir: str | Path | None) -> AsyncTrivium:
    return AsyncTrivium(api_key=api_key, addresses=addresses, data_dir=data_dir)


class Collections:
    """See `trivium_client.documents.Collections`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.collections

    def create(self, collection: str, description: str = "", *, exist_ok: bool = False) -> nouns.Collection:
        """Create a collection."""
        return self._loop.run(self._inner.create(collection, description, exist_ok=exist_ok))

    def get(self, collection: str) -> nouns.Collection:
        """One collection."""
        return self._loop.run(self._inner.get(collection))

    def list(self) -> Iterator[nouns.Collection]:
        """Every collection, by id."""
        return self._loop.iterate(self._inner.list())

    def delete(self, collection: str) -> int:
        """Delete a collection with all that is in it."""
        return self._loop.run(self._inner.delete(collection))


class Documents:
    """See `trivium_client.documents.Documents`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.docs

    def add(self, path: str | Path, *, collection: str, **options: Any) -> nouns.Document:
        """Store a file as a document."""
        return self._loop.run(self._inner.add(path, collection=collection, **options))

    def add_text(self, text: str, *, collection: str, document: str, **options: Any) -> nouns.Document:
        """Store a text under an id."""
        return self._loop.run(self._inner.add_text(text, collection=collection, document=document, **options))

    def get(self, document: str, *, collection: str) -> nouns.Document:
        """One document."""
        return self._loop.run(self._inner.get(document, collection=collection))

    def list(self, collection: str) -> Iterator[nouns.Document]:
        """Every document of a collection, by id."""
        return self._loop.iterate(self._inner.list(collection))

    def text(
        self, document: str, *, collection: str, version: str = "", start: int = 0, end: int = 0
    ) -> nouns.DocumentText:
        """Characters [start, end) of a version."""
        return self._loop.run(self._inner.text(document, collection=collection, version=version, start=start, end=end))

    def delete(self, document: str, *, collection: str) -> None:
        """Delete a document with all its versions."""
        self._loop.run(self._inner.delete(document, collection=collection))

    def watch(self, collection: str, document: str = "") -> Iterator[tuple[nouns.Document, int]]:
        """Ingestion states until nothing is pending."""
        return self._loop.iterate(self._inner.watch(collection, document))

    def search(self, query: str, *, collections: Sequence[str], **options: Any) -> Sequence[nouns.Hit]:
        """Passages, best first."""
        return self._loop.run(self._inner.search(query, collections=collections, **options))


class Datasets:
    """See `trivium_client.training.Datasets`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.data

    def upload(
        self, path: str | Path, *, name: str = "", progress: Callable[[int, int], None] | None = None
    ) -> nouns.Dataset:
        """Upload a JSON Lines file."""
        return self._loop.run(self._inner.upload(path, name=name, progress=progress))

    def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by id or digest."""
        return self._loop.run(self._inner.get(dataset))

    def list(self) -> Iterator[nouns.Dataset]:
        """Every dataset, newest first."""
        return self._loop.iterate(self._inner.list())

    def validate(self, dataset: str, *, max_row_tokens: int = 0) -> Sequence[nouns.DatasetProblem]:
        """Everything that is wrong with a dataset, by line."""
        return self._loop.run(self._inner.validate(dataset, max_row_tokens=max_row_tokens))

    def delete(self, dataset: str) -> None:
        """Delete a dataset."""
        self._loop.run(self._inner.delete(dataset))


class Jobs:
    """See `trivium_client.training.Jobs`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.jobs

    def create(self, *, model: str, dataset: str, **options: Any) -> nouns.Job:
        """Queue a job."""
        return self._loop.run(self._inner.create(model=model, dataset=dataset, **options))

    def get(self, job: str) -> nouns.Job:
        """One job."""
        return self._loop.run(self._inner.get(job))

    def list(self) -> Iterator[nouns.Job]:
        """Every job, newest first."""
        return self._loop.iterate(self._inner.list())

    def like(self, part: str) -> Sequence[nouns.Job]:
        """The jobs whose id begins or ends with `part`."""
        return self._loop.run(self._inner.like(part))

    def cancel(self, job: str) -> nouns.Job:
        """Ask a job to end."""
        return self._loop.run(self._inner.cancel(job))

    def pause(self, job: str) -> nouns.Job:
        """Ask a job to stop with a checkpoint."""
        return self._loop.run(self._inner.pause(job))

    def resume(self, job: str) -> nouns.Job:
        """Queue a paused job again."""
        return self._loop.run(self._inner.resume(job))

    def watch(self, job: str, *, after_sequence: int = 0) -> Iterator[nouns.JobEvent]:
        """A job's events until it ends."""
        return self._loop.iterate(self._inner.watch(job, after_sequence=after_sequence))

    def wait(self, job: str, *, progress: Callable[[nouns.JobEvent], None] | None = None) -> nouns.Job:
        """Return the job once it has ended."""
        return self._loop.run(self._inner.wait(job, progress=progress))


class Models(GovernanceFace):
    """See `trivium_client.models.Models`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop = loop
        self._inner: AsyncModels = inner.models

    def served(self) -> Sequence[nouns.ServedModel]:
        """Every name that `model` accepts now."""
        return self._loop.run(self._inner.served())

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
        """Upload a LoRA adapter or a full model, whichever the folder holds."""
        return self._loop.run(self._inner.add_folder(model, folder, **options))

    def import_model(self, uri: str, model: str, *, said: Callable[[str], None] | None = None) -> nouns.Version:
        """Have the registry import hf:ORG/NAME@REVISION, or file:PATH of its machine."""
        return self._loop.run(self._inner.import_model(uri, model, said=said))

    def merge(self, version: str, *, model: str, into: str, said: Callable[[str], None] | None = None) -> nouns.Version:
        """Bake an adapter into its base: a full version of the model `into`."""
        return self._loop.run(self._inner.merge(version, model=model, into=into, said=said))

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

    def engines(self) -> Sequence[nouns.Engine]:
        """The generator's engines."""
        return self._loop.run(self._inner.engines())

    def resident(self) -> Sequence[nouns.Adapter]:
        """The tenant's adapters that the generator holds."""
        return self._loop.run(self._inner.resident())

    def tiers(self) -> Sequence[nouns.TierUsage]:
        """What the tenant's adapters take of the generator's slots, host memory and files."""
        return self._loop.run(self._inner.tiers())


class Keys:
    """See `trivium_client.administration.Keys`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.keys

    def create(self, *, roles: Sequence[str] = ("member",), display_name: str = "", tenant: str = "") -> nouns.ApiKey:
        """Create a key; its `secret` is shown this once."""
        return self._loop.run(self._inner.create(roles=roles, display_name=display_name, tenant=tenant))

    def list(self, tenant: str = "") -> Iterator[nouns.ApiKey]:
        """The tenant's keys, newest first."""
        return self._loop.iterate(self._inner.list(tenant))

    def revoke(self, key: str) -> nouns.ApiKey:
        """Revoke a key by its id."""
        return self._loop.run(self._inner.revoke(key))


class Tenants:
    """See `trivium_client.administration.Tenants`."""

    def __init__(self, loop: Loop, inner: AsyncTrivium) -> None:
        self._loop, self._inner = loop, inner.tenants

    def create(self, tenant: str, display_name: str = "") -> str:
        """Create a tenant and return its id."""
        return self._loop.run(self._inner.create(tenant, display_name))

    def list(self) -> Iterator[str]:
        """Every tenant's id."""
        return self._loop.iterate(self._inner.list())
