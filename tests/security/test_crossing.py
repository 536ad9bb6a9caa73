"""Promise 3, by numbers: whatever a tenant sends to any RPC or route, it reads nothing of another's and learns of nothing."""

import random
import sys
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from protovalidate import Validator

from services.chassis.context import Role
from services.ops.supervisor import Suite
from tests.harness.plugin_sampling import is_whole, offset
from tests.security.crossing.attempts import Kind, Trier
from tests.security.crossing.doors import BODIES, routes, template
from tests.security.crossing.guesses import COMMON
from tests.security.crossing.hoard import Hoard, open_doors
from tests.security.crossing.surface import Answered, Caller, rpcs
from tests.security.crossing.treasure import walked
from tests.security.crossing.trial import Trial

# Attempts of a run and of a whole run.  A whole run makes twelve at each RPC, six where an answer is dear, eight at each route.  The
# kinds take turns, so a leak of one RPC to one kind of attempt is met by each run, mostly twice.
_ATTEMPTS, _ATTEMPTS_OF_A_WHOLE_RUN = 2_500, 10_000
_ATTEMPTS_OF_SOAK = 100_000
_LEAST_SECRETS = 100
_GOES_ON = {"next_page_token", "etag", "event"}
# Of each kind this share at least.
_LEAST_OF_A_KIND = 1 / 100
# With real ids, and with ids that never were.
_TIMES = 3


async def nothing_crosses(suite: Suite, hoard: Hoard, count: int) -> None:
    async with open_doors(suite) as doors:
        owner = doors.of(hoard.owner.key).caller
        before = values_of(await walked(owner, hoard.owner.unlisted))
        trial = Trial(hoard.treasure, hoard.owner.tenant, doors.strangers, random.Random(offset()))
        await trial.attempt(count)
        await trial.reach()
        after = values_of(await walked(owner, hoard.owner.unlisted))
    report = trial.report
    sys.stdout.write(report.table)
    # Whole, where an assertion would cut it.
    sys.stdout.writelines(f"told apart: {it}\n" for it in report.told_apart)
    assert report.reads == []
    assert report.told_apart == []
    # And nothing of it was changed or is gone, and nothing came to it.
    assert before ^ after == set()
    # Which would be easy, were there nothing to read or nobody who tried.
    assert len(hoard.treasure.secrets) > _LEAST_SECRETS
    assert min(report.made[kind] for kind in Kind) > _LEAST_OF_A_KIND * count
    assert trial.unreached == set()


def values_of(found: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The names and numbers of what somebody has, but for those that go on by themselves."""
    return {value for name, values in found.items() if name not in _GOES_ON for value in values if " " not in value}


@pytest.mark.timeout(600)
async def test_thousands_of_attempts_read_nothing_change_nothing_and_tell_nothing_apart(suite, hoard):
    await nothing_crosses(suite, hoard, _ATTEMPTS_OF_A_WHOLE_RUN if is_whole() else _ATTEMPTS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_hundred_thousand_attempts_read_nothing_change_nothing_and_tell_nothing_apart(suite, hoard):
    await nothing_crosses(suite, hoard, _ATTEMPTS_OF_SOAK)


async def test_what_services_or_admins_alone_may_call_refuses_all_others_alike_whatever_they_name(suite, hoard):
    trier = Trier(hoard.treasure, hoard.owner.tenant, random.Random(0), Validator())
    heard: dict[frozenset[Role], set[tuple[str, ...]]] = defaultdict(set)
    async with open_doors(suite) as doors:
        stranger = (await doors.newcomer()).caller
        for rpc in (it for it in rpcs() if not it.may_be_asked):
            for attempt in [trier.attempt(rpc) for _ in range(_TIMES)]:
                for request in (attempt.request, attempt.twin):
                    said = await stranger.call(rpc, request)
                    heard[rpc.roles].add((said.code, said.reason, said.sentence, *said.variables))
    assert set(heard) == {frozenset({Role.SERVICE}), frozenset({Role.ADMIN})}
    for answers in heard.values():
        ((code, reason, *_),) = answers
        assert (code, reason) == ("PERMISSION_DENIED", "ROLE_MISSING")


def test_every_route_that_takes_a_body_is_tried_with_one():
    assert len([template(route) for route in routes() if route.verb == "POST"]) == len(BODIES)


_BY_ETAG = ("UpdateCollection", "DeleteCollection", "UpdateModel", "SetAlias", "SetCanary", "DeleteAlias")


def test_every_rpc_that_takes_an_etag_of_a_thing_is_tried_with_anothers():
    takes = {rpc.method.name for rpc in rpcs() if "etag" in rpc.method.input_type.fields_by_name}
    # Whoever asks what there is to choose from says which list they have: it is told or it is not.
    assert takes - {"ListCandidates"} == set(_BY_ETAG)


@pytest.mark.parametrize("rpc", _BY_ETAG)
async def test_an_etag_of_anothers_thing_is_none_of_the_thing_of_the_same_name(suite, hoard, rpc):
    name = COMMON[0]
    async with open_doors(suite) as doors:
        owner, neighbour = (Asking(doors.of(it.key).caller) for it in (hoard.owner, hoard.neighbour))
        version = (await neighbour.ask("ListVersions", model=name)).versions[0].version
        requests = {
            "UpdateCollection": {"collection": name, "description": "mine"},
            "DeleteCollection": {"collection": name},
            "UpdateModel": {"model": name, "description": "mine"},
            "SetAlias": {"model": name, "alias": "prod", "target_version": version},
            "SetCanary": {"model": name, "alias": "prod", "version": version, "percent": 10},
            "DeleteAlias": {"model": name, "alias": "prod"},
        }
        etags = [await it.etag(rpc, name) for it in (owner, neighbour)]
        # An alias counts its tenant's events: the neighbour's goes on until it stands elsewhere.
        if etags[0] == etags[1]:
            await neighbour.ask("SetAlias", **requests["SetAlias"])
            etags[1] = await neighbour.etag(rpc, name)
        assert etags[0] != etags[1]
        refused = await neighbour.answer(rpc, **requests[rpc], etag=etags[0])
        assert (refused.code, refused.reason) == ("ABORTED", "ETAG_MISMATCH")
        assert await neighbour.etag(rpc, name) == etags[1]


class Asking:
    """One caller, by the names of RPCs."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._rpcs = {rpc.method.name: rpc for rpc in rpcs() if rpc.service in {"registry", "retriever"}}

    async def answer(self, name: str, **fields: Any) -> Answered:
        rpc = self._rpcs[name]
        return await self._caller.call(rpc, rpc.request(**fields))

    async def ask(self, name: str, **fields: Any) -> Any:
        answered = await self.answer(name, **fields)
        assert answered.is_answer, answered
        return answered.messages[0]

    async def etag(self, changing: str, name: str) -> str:
        if changing.endswith("Collection"):
            return str((await self.ask("GetCollection", collection=name)).collection.etag)
        if changing == "UpdateModel":
            return str((await self.ask("GetModel", model=name)).model.etag)
        return str((await self.ask("GetAlias", model=name, alias="prod")).alias.etag)
