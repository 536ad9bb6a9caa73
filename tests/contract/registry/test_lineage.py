"""Lineage leads both ways: what a version was made from, and all that was made from it."""

from typing import Any

from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import User, refused


def family(user: User, version: str) -> Any:
    return user.api.GetLineage(pb.GetLineageRequest(version=version))


def nodes(found) -> list[tuple[int, int]]:
    return [(node.version.number, node.depth) for node in found]


def test_ancestors_and_descendants_are_told_breadth_first(user: User):
    one = user.publish("fares").version
    two = user.publish("fares").version
    three = user.publish("fares", lineage={"parent_version": one}).version
    merged = user.publish("fares", lineage={"parent_version": three, "further_parents": [two]}).version
    last = user.publish("fares", lineage={"parent_version": merged, "further_parents": [one]}).version
    whole = family(user, last)
    assert [version.number for version in whole.chain] == [5, 4, 3, 1]
    assert nodes(whole.ancestors) == [(4, 1), (1, 1), (3, 2), (2, 2)]
    assert not whole.descendants
    from_first = family(user, one)
    # Reached over the shorter of two ways.
    assert nodes(from_first.descendants) == [(3, 1), (5, 1), (4, 2)]
    assert [node.via for node in from_first.descendants] == [one, one, three]
    assert nodes(family(user, two).descendants) == [(4, 1), (5, 2)]
    assert not from_first.truncated


def test_what_was_deleted_is_no_descendant(user: User):
    parent = user.publish("fares").version
    child = user.publish("fares", lineage={"parent_version": parent}).version
    user.api.DeleteVersion(pb.DeleteVersionRequest(model="fares", version=child))
    assert not family(user, parent).descendants


def test_every_parent_must_exist(user: User):
    with refused("VERSION_NOT_FOUND"):
        user.publish("fares", lineage={"further_parents": ["sha256:" + "0" * 64]})
    with refused("FIELD_INVALID"):
        user.publish("fares", lineage={"further_parents": ["1"]})
