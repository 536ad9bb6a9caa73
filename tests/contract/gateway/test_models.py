"""Models as OpenAI's client lists, retrieves and deletes them, over a real registry and embedder; no engine runs."""

from typing import Any

import openai
import pytest
from trivium.access.v1 import access_pb2
from trivium.common.v1 import permission_pb2
from trivium.registry.v1 import model_pb2

from tests.front import Front, Visitor
from tests.stack import User
from tests.tiny_model import TinyModel


@pytest.fixture
def client(visitor: Visitor, front: Front) -> openai.OpenAI:
    return openai.OpenAI(base_url=front.http, api_key=visitor.key, max_retries=0)


@pytest.fixture
def owner(visitor: Visitor, front: Front) -> User:
    return User(front.stack.registry_api(visitor.key), "")


def told(model: Any) -> dict[str, Any]:
    """What Trivium tells of a model beside what OpenAI does."""
    beside: dict[str, Any] = model.to_dict()["trivium"]
    return beside


def test_encoders_are_listed_as_what_they_are_and_who_is_away_is_told(client: openai.OpenAI, visitor: Visitor) -> None:
    listed = visitor.ask("GET", "/models").json()
    assert listed["data"][0]["trivium"]["kind"] == "base"
    (encoder,) = [it for it in listed["data"] if it["trivium"]["kind"] == "encoder"]
    assert encoder["trivium"]["dimensions"] == 384
    assert listed["trivium"] == {"unreachable": ["generator"]}
    found = client.models.retrieve(encoder["id"])
    assert found.to_dict()["trivium"] == encoder["trivium"]
    assert [it.id for it in client.models.list()] == [it["id"] for it in listed["data"]]


def test_a_full_model_is_listed_as_a_base_to_its_tenant_alone_and_to_a_key_that_may_only_ask(
    client: openai.OpenAI, owner: User, visitor: Visitor, front: Front
) -> None:
    full = model_pb2.VERSION_KIND_FULL
    version = owner.publish("whole", TinyModel().files(), kind=full, base_digest="")
    listed = {it.id: it.to_dict()["trivium"] for it in client.models.list()}
    assert listed["base:whole"] == {"kind": "full", "version": version.version, "base_digest": version.base_digest}
    assert client.models.retrieve("base:whole").to_dict()["trivium"] == listed["base:whole"]
    asking = access_pb2.CreateKeyRequest(
        tenant=visitor.keeper.tenant, roles=[access_pb2.ROLE_MEMBER], scopes=[permission_pb2.SCOPE_INFERENCE]
    )
    narrow = front.stack.access_api(front.stack.key("admin")).CreateKey(asking).api_key
    assert "base:whole" in [it.id for it in client.with_options(api_key=narrow).models.list()]
    theirs = client.with_options(api_key=front.newcomer().key)
    assert "base:whole" not in [it.id for it in theirs.models.list()]


def test_a_fine_tuned_model_is_deleted_once(client: openai.OpenAI, owner: User) -> None:
    version = owner.publish("fares")
    name = f"fares@{version.number}"
    assert client.models.delete(name).to_dict() == {"id": name, "object": "model", "deleted": True}
    for again in (client.models.delete, client.models.retrieve):
        with pytest.raises(openai.NotFoundError):
            again(name)


def test_a_version_that_an_alias_serves_is_kept_until_the_alias_is_deleted(
    client: openai.OpenAI, owner: User, visitor: Visitor, front: Front
) -> None:
    version = owner.publish("fares")
    front.stack.service().report("g1", visitor.keeper.tenant, version.version, "READY")
    owner.point("fares", version.version)
    assert "fares" in [it.id for it in client.models.list()]
    name = f"fares@{version.number}"
    with pytest.raises(openai.BadRequestError) as refused:
        client.models.delete(name)
    assert refused.value.code == "version_in_use"
    assert client.models.delete("fares").deleted
    assert "fares" not in [it.id for it in client.models.list()]
    # A generator holds it ready, and what runs there finishes.
    assert client.models.delete(name).deleted


@pytest.mark.parametrize("name", ["base", "auto", "all-minilm-l6-v2"])
def test_what_is_the_deployments_is_refused_by_name(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.BadRequestError, match=f"{name}.* deployment") as refused:
        client.models.delete(name)
    assert (refused.value.code, refused.value.param) == ("field_invalid", "model")


def test_a_full_model_is_deleted_by_its_version_and_not_as_a_base(client: openai.OpenAI, owner: User) -> None:
    older, newer = (
        owner.publish("whole", TinyModel(seed=seed).files(), kind=model_pb2.VERSION_KIND_FULL, base_digest="")
        for seed in (1, 2)
    )
    with pytest.raises(openai.BadRequestError, match=rf"base:whole\b.* whole@{newer.number}\b") as refused:
        client.models.delete("base:whole")
    assert (refused.value.code, refused.value.param) == ("field_invalid", "model")
    assert told(client.models.retrieve("base:whole"))["version"] == newer.version
    assert client.models.delete(f"whole@{newer.number}").deleted
    assert told(client.models.retrieve("base:whole"))["version"] == older.version


def test_deleting_needs_a_developer_and_another_tenants_model_looks_missing(
    client: openai.OpenAI, owner: User, visitor: Visitor, front: Front
) -> None:
    name = f"fares@{owner.publish('fares').number}"
    member = front.stack.tenant_key(visitor.keeper.tenant, access_pb2.ROLE_MEMBER)
    with pytest.raises(openai.PermissionDeniedError):
        client.with_options(api_key=member).models.delete(name)
    theirs = client.with_options(api_key=front.newcomer().key)
    refusals = []
    for asked in (name, f"other@{name.partition('@')[2]}"):
        with pytest.raises(openai.NotFoundError) as missing:
            theirs.models.delete(asked)
        refusals.append(str(missing.value.body).replace(asked, "NAME"))
    assert refusals[0] == refusals[1]
    assert client.models.retrieve(name).id == name
