"""Names of models: listed with what each is, looked up, and deleted by whoever they belong to."""

from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from gateway.embeddings.embedding import EmbeddingModel
from gateway.generator import Engine, EngineState
from gateway.models.naming import Naming
from gateway.peers import failures
from gateway.routing import FullVersion, ModelKind, Route, ServedAlias
from services.chassis.context import RequestContext, Role, serving
from services.chassis.errors import Failure, Reason

ASKING = RequestContext(
    tenant_id="t",
    principal_id="somebody",
    roles=frozenset({Role.DEVELOPER}),
    bearer=None,  # type: ignore[arg-type]  # nobody is called
    correlation_id="c",
    deadline_seconds=None,
    method="test",
    traceparent="",
)
MINILM = EmbeddingModel("all-minilm", "sha256:e", 384, 256, "", True, False, "", "")
OWN = replace(MINILM, name="finder@1", version="sha256:f", dimensions=7)
BROKEN = replace(MINILM, name="gone", problem="its files are away")
ROUTES = {
    "desk": Route("desk", "desk@sha256:a", ModelKind.ADAPTER, "sha256:a", base_digest="sha256:b", alias="prod"),
    "desk@1": Route("desk@1", "desk@sha256:a", ModelKind.ADAPTER, "sha256:a", base_digest="sha256:b"),
    "desk@sha256:a": Route("desk@1", "desk@sha256:a", ModelKind.ADAPTER, "sha256:a", base_digest="sha256:b"),
    "finder": Route("finder", "finder@sha256:f", ModelKind.ENCODER, "sha256:f", alias="prod"),
    "base:big": Route("base:big", "base:big", ModelKind.BASE, base="big"),
    "base:whole": Route("base:whole", "whole@sha256:w2", ModelKind.FULL, "sha256:w2", base_digest="sha256:d", number=2),
}


@dataclass
class Peers:
    """All of them: those in ``away`` refuse with a reason."""

    away: dict[str, Reason] = field(default_factory=dict)
    listed: list[ServedAlias] = field(default_factory=lambda: [ServedAlias("desk", "prod", "sha256:a", 5)])
    deleted: list[tuple[str, ...]] = field(default_factory=list)
    full: list[FullVersion] = field(default_factory=list)

    def of(self, name: str) -> None:
        if name in self.away:
            raise Failure(self.away[name], service=name, why="x", what="x", limit=1)

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        self.of("registry")
        if name not in ROUTES:
            raise Failure(Reason.MODEL_NOT_FOUND, name=name, nearest="desk")
        return ROUTES[name]

    async def aliases(self) -> list[ServedAlias]:
        self.of("registry")
        return self.listed

    async def full_versions(self) -> list[FullVersion]:
        self.of("registry")
        return self.full

    async def any(self) -> bool:
        self.of("registry")
        return True

    async def delete_alias(self, *what: str) -> None:
        self.deleted.append(what)

    async def delete_version(self, *what: str) -> None:
        self.deleted.append(what)

    async def engines(self) -> list[Engine]:
        self.of("generator")
        ready = EngineState.READY
        return [
            Engine("e", ready, "base", "sha256:b"),
            Engine("f", ready, "big", "sha256:c"),
            # A full model of the caller's, which the registry tells of.
            Engine("g", ready, "whole", "sha256:d", "whole"),
            # Another replica has the same.
            Engine("h", ready, "base", "sha256:b"),
            Engine("i", ready, "big", "sha256:c"),
        ]


@dataclass
class Embedder:
    peers: Peers

    async def models(self) -> list[EmbeddingModel]:
        self.peers.of("embedder")
        return [MINILM, BROKEN, OWN]


@pytest.fixture
def peers() -> Peers:
    return Peers()


@pytest.fixture
def naming(peers: Peers) -> Naming:
    return Naming(peers, peers, Embedder(peers), peers)


async def test_every_name_is_listed_as_what_it_is_but_an_encoder_that_cannot_be_used(naming: Naming) -> None:
    listed = await naming.models()
    assert [(it.name, it.kind.value, it.base_digest, it.dimensions) for it in listed.models] == [
        ("base", "base", "sha256:b", 0),
        ("base:big", "base", "sha256:c", 0),
        ("desk", "adapter", "sha256:b", 0),
        ("auto", "auto", "", 0),
        ("all-minilm", "encoder", "", 384),
        ("finder@1", "encoder", "", 7),
    ]
    assert listed.unreachable == ()


async def test_a_full_model_is_listed_once_as_a_base_with_the_version_that_it_means(
    naming: Naming, peers: Peers
) -> None:
    peers.full = [FullVersion("whole", "sha256:w2", 8), FullVersion("whole", "sha256:w1", 7)]
    # A name that the deployment has, and one that was deleted since.
    peers.full += [FullVersion("big", "sha256:x", 1), FullVersion("gone", "sha256:y", 2)]
    bases = [it for it in (await naming.models()).models if it.name.startswith("base:")]
    assert [(it.name, it.kind.value, it.version, it.base_digest, it.create_time_seconds) for it in bases] == [
        ("base:big", "base", "", "sha256:c", 0),
        ("base:whole", "full", "sha256:w2", "sha256:d", 8),
    ]


async def test_what_is_deleted_while_names_are_listed_is_left_out(naming: Naming, peers: Peers) -> None:
    peers.listed.append(ServedAlias("desk", "old", "sha256:gone", 4))
    assert [it.name for it in (await naming.models()).models if it.kind is ModelKind.ADAPTER] == ["desk"]


@pytest.mark.parametrize("why", [Reason.PEER_UNAVAILABLE, Reason.NOT_READY, Reason.NOT_YET_AVAILABLE])
async def test_what_is_away_is_told_and_what_is_known_is_listed(naming: Naming, peers: Peers, why: Reason) -> None:
    peers.away = dict.fromkeys(("generator", "embedder"), why)
    listed = await naming.models()
    assert [(it.name, it.base_digest) for it in listed.models] == [("base", ""), ("desk", "sha256:b"), ("auto", "")]
    assert listed.unreachable == ("embedder", "generator")


@pytest.mark.parametrize(
    ("who", "why"),
    [("registry", Reason.PEER_UNAVAILABLE), ("generator", Reason.INTERNAL), ("embedder", Reason.OVERLOADED)],
)
async def test_no_list_is_made_without_the_names_or_over_a_fault(
    naming: Naming, peers: Peers, who: str, why: Reason
) -> None:
    peers.away = {who: why}
    with pytest.raises(Failure) as failed:
        await naming.models()
    assert failed.value.reason is why


@pytest.mark.parametrize(
    ("name", "kind", "digest", "dimensions"),
    [
        ("", ModelKind.BASE, "sha256:b", 0),
        ("base:big", ModelKind.BASE, "sha256:c", 0),
        ("auto", ModelKind.AUTO, "", 0),
        ("desk@1", ModelKind.ADAPTER, "sha256:b", 0),
        ("finder", ModelKind.ENCODER, "", 7),
        ("all-minilm", ModelKind.ENCODER, "", 384),
    ],
)
async def test_any_name_is_looked_up(naming: Naming, name: str, kind: ModelKind, digest: str, dimensions: int) -> None:
    with serving(ASKING):
        found = await naming.model(name)
    assert (found.kind, found.base_digest, found.dimensions) == (kind, digest, dimensions)


@pytest.mark.parametrize("name", ["unknown", "gone"])
async def test_a_name_that_means_nothing_is_refused_looked_up_and_deleted(naming: Naming, name: str) -> None:
    with serving(ASKING):
        for asked in (naming.model, naming.delete):
            with pytest.raises(Failure) as failed:
                await asked(name)
            assert failed.value.reason is Reason.MODEL_NOT_FOUND


@pytest.mark.parametrize(
    ("name", "deleted"),
    [("desk", ("desk", "prod")), ("desk@1", ("desk", "sha256:a")), ("finder", ("finder", "prod"))],
)
async def test_a_version_is_deleted_by_its_number_and_an_alias_by_its_name(
    naming: Naming, peers: Peers, name: str, deleted: tuple[str, ...]
) -> None:
    with serving(ASKING):
        await naming.delete(name)
    assert peers.deleted == [deleted]


@pytest.mark.parametrize("name", ["base", "auto", "base:big", "all-minilm"])
async def test_what_is_the_deployments_is_nobodys_to_delete(naming: Naming, peers: Peers, name: str) -> None:
    with serving(ASKING), pytest.raises(Failure, match=f"{name}.* deployment") as failed:
        await naming.delete(name)
    assert (failed.value.reason, failed.value.field, peers.deleted) == (Reason.FIELD_INVALID, "model", [])


@pytest.mark.parametrize("name", ["base:whole", " base:whole "])
async def test_a_version_is_not_deleted_by_the_name_of_the_base_that_it_is(
    naming: Naming, peers: Peers, name: str
) -> None:
    with serving(ASKING), pytest.raises(Failure, match=r"base:whole\b.* whole@2\b") as failed:
        await naming.delete(name)
    assert (failed.value.reason, failed.value.field, peers.deleted) == (Reason.FIELD_INVALID, "model", [])


def test_a_peer_that_does_not_know_a_call_is_named_and_is_no_fault_of_ours() -> None:
    nothing: Any = grpc.aio.Metadata()
    with pytest.raises(Failure, match="generator") as failed, failures.of("generator"):
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNIMPLEMENTED, nothing, nothing, "Method not found!")
    assert failed.value.reason is Reason.NOT_YET_AVAILABLE
