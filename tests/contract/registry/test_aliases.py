"""An alias moves when generators are ready, all or nothing, and says where it stands."""

import threading
import uuid
from collections.abc import Iterator

import grpc
import pytest
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.harness.wording import missing
from tests.stack import Stack, User, pages, refused

SERVING, PENDING, FAILED = (
    model_pb2.ALIAS_STATE_SERVING,
    model_pb2.ALIAS_STATE_PENDING,
    model_pb2.ALIAS_STATE_FAILED,
)


@pytest.fixture(scope="module")
def lonely(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A registry of its own: the number of living generators is the deployment's."""
    alone = Stack(tmp_path_factory.mktemp("lonely"), beside=stack)
    yield alone
    alone.close()


@pytest.fixture(scope="module")
def pair(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployment that wants two ready generators."""
    wanting = Stack(tmp_path_factory.mktemp("pair"), {"TRIVIUM_REGISTRY_MIN_READY": "2"}, beside=stack)
    yield wanting
    wanting.close()


def moves(user: User) -> list[model_pb2.AliasMove]:
    request = pb.ListAliasMovesRequest(model="fares", alias="prod", page_size=1)

    def page(token: str):
        request.page_token = token
        return user.api.ListAliasMoves(request)

    return list(pages(page, "moves"))


def test_without_a_generator_a_first_target_waits_and_says_why(lonely: Stack):
    user = lonely.newcomer()
    version = user.publish("fares").version
    alias = user.point("fares", version)
    assert (alias.state, alias.target_version, alias.serving_version) == (PENDING, version, "")
    assert "generator" in alias.reason
    with refused("ALIAS_NOT_SERVING"):
        user.resolve("fares")
    # The first heartbeat alone moves nothing; the word on the version does.
    assert not lonely.service().report("g", "", "", "")
    assert not missing(user.alias("fares").reason, "0 of 1")
    (changed,) = lonely.service().report("g", user.tenant, version, "READY")
    assert (changed.state, changed.serving_version, changed.tenant) == (SERVING, version, user.tenant)
    assert user.resolve("fares").version == version


def test_the_flip_follows_readiness(stack: Stack, user: User):
    generator = stack.service()
    old, new = user.publish("fares").version, user.publish("fares").version
    generator.report("g1", user.tenant, old, "READY")
    assert user.point("fares", old).state == SERVING
    assert user.point("fares", new).serving_version == old
    generator.report("g1", user.tenant, new, "LOADING")
    assert user.resolve("fares").version == old
    generator.report("g1", user.tenant, new, "READY")
    alias = user.alias("fares")
    assert (alias.state, alias.serving_version, alias.reason) == (SERVING, new, "")
    assert [(word.generator, word.state) for word in alias.readiness] == [("g1", model_pb2.READINESS_STATE_READY)]
    assert [(move.number, move.from_version, move.to_version) for move in moves(user)] == [(2, old, new), (1, "", old)]


def test_a_target_that_fails_leaves_what_serves_and_shows_why(stack: Stack, user: User):
    generator = stack.service()
    good, bad = user.publish("fares").version, user.publish("fares").version
    generator.report("g1", user.tenant, good, "READY")
    user.point("fares", good)
    user.point("fares", bad)
    (changed,) = generator.report("g1", user.tenant, bad, "FAILED", "out of memory")
    assert (changed.state, changed.serving_version, changed.target_version) == (FAILED, good, bad)
    assert "out of memory" in user.alias("fares").reason
    # A failure is final until somebody sets the target again.
    assert not generator.report("g1", user.tenant, bad, "READY")
    assert user.resolve("fares").version == good
    assert user.point("fares", bad).state == SERVING


def test_setting_a_failed_target_again_tries_it_afresh(stack: Stack, user: User):
    generator = stack.service()
    version = user.publish("fares").version
    user.point("fares", version)
    generator.report("g1", user.tenant, version, "FAILED", "no slot")
    assert user.alias("fares").state == FAILED
    assert user.point("fares", version).state == PENDING
    generator.report("g1", user.tenant, version, "READY")
    assert user.resolve("fares").version == version


def test_going_back_to_what_serves_needs_no_generator(stack: Stack, user: User):
    old, new = user.publish("fares").version, user.publish("fares").version
    stack.service().report("g1", user.tenant, old, "READY")
    user.point("fares", old)
    user.point("fares", new)
    alias = user.point("fares", old)
    assert (alias.state, alias.target_version, alias.serving_version) == (SERVING, old, old)
    assert len(moves(user)) == 1


def test_two_ready_generators_are_needed_where_two_are_wanted(pair: Stack):
    user, generator = pair.newcomer(), pair.service()
    version = user.publish("fares").version
    user.point("fares", version)
    for name in ("g1", "g2", "g3"):
        generator.report(name, "", "", "")
    generator.report("g1", user.tenant, version, "READY")
    assert not missing(user.alias("fares").reason, "1 of 2", "3")
    # One refusal of three leaves two that may still be enough.
    assert not generator.report("g2", user.tenant, version, "FAILED", "full")
    (changed,) = generator.report("g3", user.tenant, version, "READY")
    assert changed.state == SERVING


def test_it_fails_when_too_few_are_left_to_be_enough(pair: Stack):
    user, generator = pair.newcomer(), pair.service()
    version = user.publish("fares").version
    user.point("fares", version)
    for name in ("g1", "g2", "g3"):
        generator.report(name, "", "", "")
    generator.report("g1", user.tenant, version, "FAILED", "full")
    (changed,) = generator.report("g2", user.tenant, version, "FAILED", "too large")
    assert changed.state == FAILED
    assert not missing(changed.reason, "g1: full", "g2: too large")


def test_a_generator_that_started_again_must_say_anew_that_it_is_ready(lonely: Stack):
    user, generator = lonely.newcomer(), lonely.service()
    version = user.publish("fares").version
    generator.report("g", user.tenant, version, "READY", life="before")
    # It serves another base now, or takes a lower rank: what it held then says nothing.
    generator.report("g", "", "", "", life="after")
    waiting = user.point("fares", version)
    assert (waiting.state, waiting.serving_version) == (PENDING, "")
    assert not waiting.readiness
    (changed,) = generator.report("g", user.tenant, version, "READY", life="after")
    assert changed.state == SERVING
    assert [(word.generator, word.instance) for word in user.alias("fares").readiness] == [("g", "after")]


def test_a_straggler_of_a_former_life_is_refused(lonely: Stack):
    user, generator = lonely.newcomer(), lonely.service()
    version = user.publish("fares").version
    user.point("fares", version)
    generator.report("s", "", "", "", life="before")
    generator.report("s", "", "", "", life="after")
    with refused("GENERATOR_REPLACED"):
        generator.report("s", user.tenant, version, "READY", life="before")
    assert user.alias("fares").state == PENDING


def test_a_version_that_was_unloaded_serves_again_only_after_a_fresh_word(lonely: Stack):
    user, generator = lonely.newcomer(), lonely.service()
    old, new = user.publish("fares").version, user.publish("fares").version
    for version in (old, new):
        generator.report("g", user.tenant, version, "READY", life="after")
        assert user.point("fares", version).serving_version == version
    generator.report("g", user.tenant, old, "LOADING", "it was unloaded", life="after")
    back = user.point("fares", old)
    assert (back.state, back.serving_version) == (PENDING, new)
    assert "unloaded" in back.reason
    (changed,) = generator.report("g", user.tenant, old, "READY", life="after")
    assert changed.serving_version == old


def test_a_report_that_names_no_life_is_refused(stack: Stack, user: User):
    with refused("REQUEST_INVALID"):
        stack.service().report("g1", user.tenant, user.publish("fares").version, "READY", life="")


def test_only_a_service_reports_readiness(user: User):
    version = user.publish("fares").version
    with refused("ROLE_MISSING"):
        user.report("g1", user.tenant, version, "READY")


def test_a_report_on_an_unknown_version_is_refused(stack: Stack, user: User):
    with refused("VERSION_NOT_FOUND"):
        stack.service().report("g1", user.tenant, "sha256:" + "0" * 64, "READY")


def test_compare_and_swap_on_the_etag(user: User):
    one, two = user.publish("fares").version, user.publish("fares").version
    first = user.point("fares", one, etag="new")
    with refused("ETAG_MISMATCH"):
        user.point("fares", two, etag="new")
    second = user.point("fares", two, etag=first.etag)
    with refused("ETAG_MISMATCH") as failures:
        user.point("fares", one, etag=first.etag)
    assert failures[0].variables["etag"] == second.etag
    with refused("ETAG_MISMATCH"):
        user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod", etag=first.etag))


def test_of_racing_swaps_exactly_one_wins(user: User):
    versions = [user.publish("fares").version for _ in range(8)]
    etag = user.point("fares", versions[0]).etag
    start, outcomes, refusals = threading.Barrier(len(versions)), [], []

    def swap(version: str) -> None:
        start.wait()
        try:
            user.point("fares", version, etag=etag)
            outcomes.append(version)
        except grpc.RpcError as error:
            refusals.append(from_rpc_error(error).reason)

    threads = [threading.Thread(target=swap, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert refusals == ["ETAG_MISMATCH"] * (len(versions) - 1)
    assert user.alias("fares").target_version == outcomes[0]


def test_a_repeated_request_id_moves_once(user: User):
    one, two = user.publish("fares").version, user.publish("fares").version
    request_id = str(uuid.uuid4())
    first = user.point("fares", one, request_id=request_id)
    user.point("fares", two)
    assert user.point("fares", one, request_id=request_id).etag == first.etag
    assert user.alias("fares").target_version == two


def test_a_deleted_alias_resolves_no_more_and_its_etags_do_not_return(user: User):
    version = user.publish("fares").version
    before = user.point("fares", version)
    user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    with refused("ALIAS_NOT_FOUND"):
        user.alias("fares")
    with refused("ALIAS_NOT_FOUND"):
        user.api.DeleteAlias(pb.DeleteAliasRequest(model="fares", alias="prod"))
    assert user.point("fares", version).etag != before.etag


def test_aliases_of_all_models_are_listed_in_pages(stack: Stack, user: User):
    for model in ("a", "b"):
        version = user.publish(model).version
        for alias in ("prod", "canary"):
            user.point(model, version, alias=alias)

    def listing(api, model: str = ""):
        return pages(
            lambda token: api.ListAliases(pb.ListAliasesRequest(model=model, page_size=3, page_token=token)), "aliases"
        )

    names = [(alias.model, alias.alias) for alias in listing(user.api)]
    assert names == [("a", "canary"), ("a", "prod"), ("b", "canary"), ("b", "prod")]
    assert [alias.alias for alias in listing(user.api, "b")] == ["canary", "prod"]
    everywhere = {(alias.tenant, alias.model) for alias in listing(stack.service().api)}
    assert {(user.tenant, "a"), (user.tenant, "b")} <= everywhere
