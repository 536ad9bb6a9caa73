"""What somebody who deletes an encoder breaks: the collections that are embedded or reranked by it.

The registry knows nothing of collections, so the command asks the retriever.  Invariant: what cannot be
looked up is said, and keeps nobody from deleting.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import typer

from trivium_client import NotFoundError, Trivium, TriviumError
from trivium_client.nouns import Alias, Collection, Version


@dataclass(frozen=True, slots=True)
class Going:
    """What will mean nothing afterwards: names, and digests of folders that no other version has."""

    called: str
    names: frozenset[str]
    digests: frozenset[str] = frozenset()


def of_versions(client: Trivium, model: str, reference: str) -> Going | None:
    """A version, or without a reference all of the model's; None where no encoder is among them."""
    try:
        versions = [client.models.version(reference, model=model)] if reference else client.models.versions(model)
        encoders = [version for version in versions if version.kind == "encoder"]
    except NotFoundError:
        # The deletion itself says what there is not.
        return None
    if not encoders:
        return None
    names = {name for version in encoders for name in _names(version)}
    if not reference:
        names |= {model, *(f"{model}@{alias.alias}" for alias in client.models.aliases(model))}
    digests = {version.base_digest for version in encoders if not _elsewhere(client, version, encoders)}
    called = f"{model}@{encoders[0].number}" if reference else model
    return Going(called, frozenset(names | digests), frozenset(digests))


def of_alias(client: Trivium, model: str, alias: str) -> Going | None:
    """An alias; None where it serves no encoder.  Collections keep digests, so it is rerankers that have its name."""
    found: Iterable[Alias] = client.models.aliases(model)
    if not any(it.alias == alias and it.kind == "encoder" for it in found):
        return None
    name = f"{model}@{alias}"
    return Going(name, frozenset({name, model} if alias == "prod" else {name}))


def _names(version: Version) -> Iterable[str]:
    return (f"{version.model}@{version.number}", f"{version.model}@{version.version}", version.version)


def _elsewhere(client: Trivium, version: Version, going: Sequence[Version]) -> bool:
    """Whether another version has the same files: then their digest still means something."""
    gone = {it.version for it in going}
    found = client.models.search(base_digest=version.base_digest, kind="encoder")
    return any(it.version.version not in gone for it in found)


def told(client: Trivium, going: Going | None) -> bool:
    """Say which collections the deletion breaks, or that they could not be looked up; whether there are any."""
    if going is None:
        return False
    try:
        broken = [line for collection in client.collections.list() for line in _broken(collection, going)]
    except TriviumError as error:
        broken = []
        why = f"Which collections are embedded or reranked by {going.called} could not be looked up: {error.message}"
        typer.echo(why, err=True)
    for line in broken:
        typer.echo(line, err=True)
    return bool(broken)


def _broken(collection: Collection, going: Going) -> Iterable[str]:
    """What becomes of a collection, a sentence for each thing."""
    name, change = collection.collection, collection.reembedding
    if collection.embedding_digest in going.digests:
        yield (
            f"{name} is embedded by {going.called}: without it searches by vectors fail and new documents wait. To keep it "
            f"searchable, first: trivium docs reembed {name} MODEL"
        )
    if change is not None and change.running and change.embedding_digest in going.digests:
        yield f"{name} is being embedded by {going.called}: that change would fail, and it keeps the model that it has."
    if collection.search_settings.rerank_model in going.names:
        yield (
            f"{name} is reranked by {going.called}: without it searches keep the fused order. For the default: "
            f"trivium docs settings {name} --rerank-model ''"
        )
