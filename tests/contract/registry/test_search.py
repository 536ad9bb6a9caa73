"""Versions are found by what they are and how they measured, over all models of the tenant and no other's."""

from typing import Any

import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import Stack, User, pages, refused
from tests.tiny_model import TinyModel

DATA, OTHER = "sha256:" + "d" * 64, "sha256:" + "e" * 64


def found(user: User, **wanted: Any) -> list[str]:
    """What a search finds, as MODEL@NUMBER, in its order."""
    page_size = wanted.pop("page_size", 2)

    def page(token: str) -> Any:
        return user.api.SearchVersions(pb.SearchVersionsRequest(page_size=page_size, page_token=token, **wanted))

    return [f"{item.version.model}@{item.version.number}" for item in pages(page, "found")]


def measure(user: User, version: model_pb2.Version, value: float, dataset: str = DATA) -> None:
    evaluation = model_pb2.Evaluation(metric="accuracy", value=value, dataset_digest=dataset)
    user.api.RecordEvaluation(pb.RecordEvaluationRequest(version=version.version, evaluation=evaluation))


@pytest.fixture(scope="module")
def library(stack: Stack) -> User:
    """Three adapters of two models and a full model."""
    user = stack.newcomer()
    user.api.CreateModel(pb.CreateModelRequest(model="fares", task="answering", card="What a 100% _ticket_ costs"))
    trained = {"job": "job-1", "dataset_digest": DATA, "metrics": {"train_loss": 0.25}}
    one, two = user.publish("fares", lineage=trained), user.publish("fares")
    other = user.publish("routes")
    user.publish("whole", TinyModel().files(), kind=model_pb2.VERSION_KIND_FULL, base_digest="")
    user.api.TagVersion(pb.TagVersionRequest(version=two.version, add=["best"]))
    measure(user, one, 0.9)
    measure(user, one, 0.7)
    measure(user, two, 0.8)
    measure(user, other, 0.8)
    measure(user, other, 0.1, OTHER)
    return user


def test_the_newest_come_first_in_pages(library: User):
    assert found(library) == ["whole@1", "routes@1", "fares@2", "fares@1"]
    assert found(library, page_size=1) == found(library)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"text": "FARE"}, ["fares@2", "fares@1"]),
        ({"text": "100% _TICKET_"}, ["fares@2", "fares@1"]),
        ({"text": "100_"}, []),
        ({"text": "BES"}, ["fares@2"]),
        ({"task": "answering"}, ["fares@2", "fares@1"]),
        ({"tag": "best"}, ["fares@2"]),
        ({"tag": "bes"}, []),
        ({"kind": model_pb2.VERSION_KIND_FULL}, ["whole@1"]),
        ({"job": "job-1"}, ["fares@1"]),
        ({"dataset_digest": DATA}, ["fares@1"]),
        ({"base_digest": DATA}, []),
        ({"metric": "train_loss", "most": 0.25}, ["fares@1"]),
        ({"metric": "train_loss", "most": 0.2}, []),
        ({"metric": "accuracy", "dataset_digest": OTHER}, ["routes@1"]),
        ({"metric": "accuracy", "dataset_digest": DATA, "least": 0.75}, ["routes@1", "fares@2"]),
        ({"metric": "accuracy", "dataset_digest": DATA, "least": 0.7, "most": 0.7}, ["fares@1"]),
        ({"metric": "accuracy", "dataset_digest": DATA, "task": "answering", "tag": "best"}, ["fares@2"]),
    ],
)
def test_every_condition_narrows(library: User, wanted: dict[str, Any], expected: list[str]):
    assert found(library, **wanted) == expected


def test_the_best_come_first_by_their_newest_measurement(library: User):
    highest = found(library, metric="accuracy", dataset_digest=DATA, order=pb.SEARCH_ORDER_HIGHEST, page_size=1)
    lowest = found(library, metric="accuracy", dataset_digest=DATA, order=pb.SEARCH_ORDER_LOWEST, page_size=1)
    assert (highest[2], lowest[0], set(highest)) == ("fares@1", "fares@1", {"fares@1", "fares@2", "routes@1"})
    assert lowest == highest[::-1]
    answer = library.api.SearchVersions(pb.SearchVersionsRequest(metric="accuracy", dataset_digest=DATA))
    assert [item.value for item in answer.found] == [0.8, 0.8, 0.7]
    plain = library.api.SearchVersions(pb.SearchVersionsRequest())
    assert not any(item.HasField("value") for item in plain.found)


def test_bounds_and_orders_need_a_metric(library: User):
    for wanted in ({"least": 0.5}, {"most": 0.0}, {"order": pb.SEARCH_ORDER_HIGHEST}):
        with refused("FIELD_INVALID"):
            found(library, **wanted)


def test_what_is_deleted_is_not_found(user: User):
    user.publish("fares")
    user.publish("fares")
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version="1"))
    assert found(user) == ["fares@2"]
    user.api.DeleteModel(pb.DeleteModelRequest(model="fares"))
    assert found(user) == []


def test_versions_that_say_so_much_that_a_page_is_no_message_come_on_more_pages(user: User):
    parent = ""
    for _ in range(6):
        lineage = {"config": {"notes": "x" * 750_000}, "parent_version": parent}
        parent = user.publish("fares", lineage=lineage).version
    everything = [f"fares@{number}" for number in (6, 5, 4, 3, 2, 1)]
    assert found(user, page_size=100) == everything
    assert found(user, page_size=3) == everything

    def page(token: str) -> Any:
        return user.api.ListVersions(pb.ListVersionsRequest(model="fares", page_token=token))

    assert [version.number for version in pages(page, "versions")] == [6, 5, 4, 3, 2, 1]
    family = user.api.GetLineage(pb.GetLineageRequest(version=parent))
    assert [version.number for version in family.chain] == [6, 5, 4, 3]
    assert family.truncated
    assert [node.version.number for node in family.ancestors] == [5, 4, 3, 2, 1]


def test_a_token_of_another_search_is_refused(library: User):
    token = library.api.SearchVersions(pb.SearchVersionsRequest(page_size=1)).next_page_token
    with refused("PAGE_TOKEN_INVALID"):
        library.api.SearchVersions(pb.SearchVersionsRequest(page_size=1, page_token=token, tag="best"))


def test_nothing_of_another_tenant_is_found(library: User, user: User):
    assert found(user) == []
    assert found(user, metric="accuracy") == []
