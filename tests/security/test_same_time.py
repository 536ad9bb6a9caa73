"""Promise 3, by time: the data and requests of one tenant do not change how long an answer to another takes.

A run times one in five of the RPCs and routes, at full power.  It finds every fault that all of them share, and one in
five of the faults of a single one.  A whole run finds all.
"""

import json
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from itertools import cycle
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from protovalidate import Validator

from tests.security.crossing.attempts import Kind, Trier
from tests.security.crossing.doors import Asked, Knocker, named, routes
from tests.security.crossing.guesses import COMMON
from tests.security.crossing.hoard import Doors, open_doors
from tests.security.crossing.latencies import Ask, area, seconds_of, told_apart_by_time
from tests.security.crossing.surface import rpcs
from tests.security.crossing.treasure import is_text

# What looks up a thing by its name, and where it is there tells of it, changes it or ends it; a stranger makes nothing by it.
_LOOKS_UP = (
    *("Get", "Resolve", "List", "Read", "Download", "Search", "Count"),
    *("Update", "Tag", "Set", "Record", "Publish", "Attach", "Pause", "Resume", "Restore", "Revoke", "Rotate"),
    *("Cancel", "Delete"),
)
# Where a list goes on, and which state a thing is in.
_NAMES_NOTHING = {"page_token", "after", "before", "etag"}
_DEEP = 2


def _names_something(message: Descriptor, depth: int = 0) -> bool:
    """Whether a text in a message, or in one that it holds, may be anything's name; what is written on things is none."""
    return any(
        (is_text(field) and field.name not in _NAMES_NOTHING)
        or (field.message_type is not None and depth < _DEEP and _names_something(field.message_type, depth + 1))
        for field in message.fields
        if field.message_type is None or not field.message_type.GetOptions().map_entry
    )


RPCS = {
    rpc.path.removeprefix("/trivium."): rpc
    for rpc in rpcs()
    if rpc.method.name.startswith(_LOOKS_UP)
    and rpc.may_be_asked
    and not rpc.makes
    and _names_something(rpc.method.input_type)
}
ROUTES = {named(route): route for route in routes() if "{" in route.path}
# So many different things are asked for, where there are as many, of so many that are drawn.
_THINGS, _DRAWN = 8, 400
_QUESTIONS = 30
# What is computed takes many times what is found: areas of a half and of nothing are far apart.
_LEAST, _MOST = 0.2, 0.8
_LONG = "The same long question again, {}, of which every word would be read once more by an engine. "


@pytest_asyncio.fixture
async def doors(suite) -> AsyncIterator[Doors]:
    async with open_doors(suite) as opened:
        yield opened


@pytest.mark.sampled(every=5, family="refusals timed")
@pytest.mark.parametrize("path", RPCS)
async def test_to_say_that_anothers_thing_is_missing_takes_as_long_as_of_any_missing_thing(doors, hoard, path):
    stranger, rpc = (await doors.newcomer()).caller, RPCS[path]
    trier = Trier(hoard.treasure, hoard.owner.tenant, random.Random(0), Validator())
    attempts = [it for it in (trier.attempt(rpc) for _ in range(_DRAWN)) if it.kind is Kind.REAL_IDS]

    def asking(request: Message) -> Ask:
        return lambda: stranger.call(rpc, request)

    await as_long([(asking(it.request), asking(it.twin)) for it in attempts[:_THINGS]])


@pytest.mark.sampled(every=5, family="refusals timed")
@pytest.mark.parametrize("path", ROUTES)
async def test_a_route_takes_as_long_to_say_so(doors, hoard, path):
    stranger, known = (await doors.newcomer()).door, set(hoard.treasure.all)
    knocker = Knocker(hoard.treasure, hoard.owner.tenant, random.Random(0))
    knocks = [
        it for it in (knocker.attempt(ROUTES[path]) for _ in range(_DRAWN)) if it.used and known.issuperset(it.used)
    ]

    def asking(asked: Asked) -> Ask:
        return lambda: stranger.ask(asked)

    await as_long([(asking(it.request), asking(it.twin)) for it in knocks[:_THINGS]])


async def as_long(pairs: Sequence[tuple[Ask, Ask]]) -> None:
    """Asks for what is another's and, of the same shape, for what never was, as often for either."""
    assert pairs
    # How much there is of an upload is an answer where there is none, and what a search finds.
    for real, never in pairs:
        assert (await real()).is_answer == (await never()).is_answer
    turns = cycle(pairs)
    found = await told_apart_by_time(lambda: next(turns), random.Random(0))
    assert abs(found - 1 / 2) < 0.1


async def test_what_another_tenant_had_embedded_is_not_embedded_sooner(doors, hoard):
    owner, stranger = doors.of(hoard.owner.key).caller, (await doors.newcomer()).caller
    [rpc] = [it for it in rpcs() if it.path.endswith("EmbedderService/Embed")]

    def embed(caller: Any, text: str) -> Ask:
        return lambda: caller.call(rpc, rpc.request(texts=[text]))

    await no_sooner(lambda text: embed(owner, text), lambda text: embed(stranger, text))


async def test_what_another_tenant_has_searched_for_is_not_found_sooner(doors, hoard):
    owner, neighbour = (doors.of(it.key).door for it in (hoard.owner, hoard.neighbour))

    def search(door: Any, text: str) -> Ask:
        asked = Asked("POST", f"/v1/vector_stores/{COMMON[0]}/search", (), json.dumps({"query": text}))
        return lambda: door.ask(asked)

    await no_sooner(lambda text: search(owner, text), lambda text: search(neighbour, text))


async def no_sooner(of_owner: Any, of_stranger: Any) -> None:
    """Asks what the owner has asked, and what nobody has; the owner, who asks again, is answered from what is kept."""
    again, asked, new = list[float](), list[float](), list[float]()
    for number in range(_QUESTIONS):
        known, other = (f"Who has the {uuid.uuid4().hex[:8]} of the ferry in the fog?" for _ in range(2))
        await of_owner(known)()
        for seconds, ask in [(asked, of_stranger(known)), (new, of_stranger(other))][:: 1 if number % 2 else -1]:
            seconds.append(await seconds_of(ask))
        again.append(await seconds_of(of_owner(known)))
    assert _LEAST < area(asked, new) < _MOST
    # The measure would tell.
    assert area(again, new) < _LEAST


async def test_a_prompt_that_another_tenants_engine_has_read_is_read_again(doors, hoard):
    owner, stranger = doors.of(hoard.owner.key).door, (await doors.newcomer()).door
    content = _LONG.format(uuid.uuid4().hex) * 8
    body = json.dumps({"model": "base", "max_tokens": 1, "messages": [{"role": "user", "content": content}]})
    cached = [await cached_tokens(door, body) for door in (owner, owner, stranger)]
    assert cached[1] > 0
    assert (cached[0], cached[2]) == (0, 0)


async def cached_tokens(door: Any, body: str) -> int:
    heard = await door.ask(Asked("POST", "/v1/chat/completions", (), body))
    assert heard.is_answer, heard
    return int(heard.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
