"""A store is made with its files or not at all, and once for each request, whenever its caller leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

from gateway.vector_stores.creating import Creation
from gateway.vector_stores.filing import Filing
from gateway.vector_stores.nouns import Collection, FileCounts, FileFacts, Holdings, Listing, Store, StoreDraft
from services.chassis.context import Bearer, RequestContext, Role, current_or_none, serving
from services.chassis.errors import Failure, Reason
from tests.harness.timeouts import HANG_SECONDS

REQUEST = "6f1c1d0a-2a1e-4bb1-9a51-0d5f3c7f9c11"
STORE = f"vs_{REQUEST.replace('-', '')}"
DRAFT = StoreDraft("Ferry", "Its house.", {"line": "north"}, 3, ("f1", "f2", "f3"))
ASKING = RequestContext("ada", "key1", frozenset({Role.DEVELOPER}), Bearer(), "id", None, "/Create")
AWAY = Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="retriever")


class Shelves:
    """A retriever and a service of files in one; at the step that is named it waits, or fails."""

    def __init__(self) -> None:
        self.collections: dict[str, Collection] = {}
        self.held: dict[str, list[str]] = {}
        self.removed: list[str] = []
        self.put_there: list[str] = []
        self.stops_at = ""
        self.fails: Failure | None = None
        self.made: dict[str, Collection] = {}
        self.etags = count(1)
        self.asked: list[str] = []
        self.stopped = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.deadlines: list[float | None] = []

    async def _step(self, name: str) -> None:
        await asyncio.sleep(0)
        if name != self.stops_at:
            return
        if self.fails is not None:
            raise self.fails
        self.stopped.set()
        await self.goes_on.wait()

    def _require(self, name: str) -> Collection:
        if name not in self.collections:
            raise Failure(Reason.COLLECTION_NOT_FOUND, name=name, nearest="")
        return self.collections[name]

    async def create(
        self, name: str, title: str, description: str, metadata: Any, seconds: int, request_id: str
    ) -> Collection:
        await self._step("create")
        self.asked.append(request_id)
        if request_id in self.made:
            return self.made[request_id]
        if name in self.collections:
            raise Failure(Reason.COLLECTION_EXISTS, name=name)
        self.held[name] = []
        self.collections[name] = Collection(
            name, title, description, metadata, 1.0, 1.0, seconds, None, expired=False, etag=str(next(self.etags))
        )
        self.made[request_id] = self.collections[name]
        await self._step("created")
        return self.made[request_id]

    async def collection(self, name: str) -> Collection:
        return self._require(name)

    async def keep(self, name: str, etag: str) -> None:
        await self._step("keep")
        self._compare(name, etag)
        self.collections[name] = replace(self.collections[name], etag=str(next(self.etags)))

    def _compare(self, name: str, etag: str) -> None:
        if self._require(name).etag != etag:
            raise Failure(Reason.ETAG_MISMATCH, name=name, etag=self.collections[name].etag)

    async def remove(self, name: str, etag: str = "") -> None:
        call = current_or_none()
        self.deadlines.append(None if call is None else call.remaining_seconds())
        await self._step("remove")
        self._compare(name, etag)
        del self.collections[name]
        self.removed.append(name)

    async def holdings(self, name: str) -> Holdings:
        await self._step("holdings")
        self._require(name)
        return Holdings(FileCounts(completed=len(self.held[name])), 1)

    async def documents(self, name: str, listing: Listing) -> tuple[list[Any], bool]:
        self._require(name)
        begin = self.held[name].index(listing.after) + 1 if listing.after else 0
        page = self.held[name][begin : begin + 2]
        return [FileFacts(file, "", "", 1, "") for file in page], begin + 2 < len(self.held[name])

    async def put(self, name: str, draft: Any, facts: Any, content: Any) -> Any:
        await self._step(draft.file)
        self._require(name)
        self.put_there.append(draft.file)
        self.held[name].append(draft.file)

    async def remember(self, name: str, documents: Any, refused: Any) -> Any:
        self._require(name)

    async def attach(self, file: str) -> FileFacts:
        return FileFacts(file, f"{file}.md", "", 1, "")

    async def require(self, file: str) -> None:
        pass

    async def read(self, file: str) -> AsyncIterator[bytes]:
        yield b"x"


def creation(shelves: Any) -> Creation:
    return Creation(shelves, Filing(shelves, shelves), lambda: str(uuid4()))


async def made(making: Creation, draft: StoreDraft = DRAFT, request_id: str = REQUEST) -> Store:
    async with asyncio.timeout(HANG_SECONDS):
        return await making.store(draft, request_id)


async def left_at(making: Creation, shelves: Shelves, step: str) -> asyncio.Task[Store]:
    """A creation whose caller leaves at a step."""
    shelves.stops_at = step
    task = asyncio.create_task(made(making))
    async with asyncio.timeout(HANG_SECONDS):
        await shelves.stopped.wait()
    task.cancel()
    return task


@pytest.mark.parametrize("step", ["f1", "f3", "holdings", "create"])
async def test_a_store_whose_caller_leaves_is_taken_back_and_made_by_the_repeat(step: str) -> None:
    shelves = Shelves()
    making = creation(shelves)
    task = await left_at(making, shelves, step)
    # Who waits for what cannot be stopped any more waits here.
    shelves.goes_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (shelves.collections, shelves.removed) == ({}, [STORE])
    store = await made(making)
    assert (store.collection.collection, store.holdings.files.total) == (STORE, 3)
    assert list(shelves.collections) == [STORE]


async def test_a_repeat_waits_until_what_was_begun_is_taken_back() -> None:
    shelves = Shelves()
    making = creation(shelves)
    task = await left_at(making, shelves, "f2")
    shelves.stopped.clear()
    shelves.stops_at = "remove"
    async with asyncio.timeout(HANG_SECONDS):
        await shelves.stopped.wait()
    repeat = asyncio.create_task(made(making))
    # Nor does one who leaves once more end it.
    task.cancel()
    await asyncio.sleep(0)
    assert not repeat.done()
    shelves.goes_on.set()
    store = await repeat
    assert (store.holdings.files.total, shelves.removed) == (3, [STORE])
    assert list(shelves.collections) == [STORE]


async def test_what_is_taken_back_has_time_of_its_own_where_the_calls_has_ended() -> None:
    shelves = Shelves()
    with serving(replace(ASKING, deadline_seconds=0.0)):
        task = await left_at(creation(shelves), shelves, "f1")
        await asyncio.wait([task])
    (left,) = shelves.deadlines
    assert left is not None
    assert left > 1


async def test_a_store_that_does_not_get_its_files_is_none() -> None:
    for step in ("f2", "holdings"):
        shelves = Shelves()
        shelves.stops_at, shelves.fails = step, AWAY
        with pytest.raises(Failure) as failed:
            await made(creation(shelves))
        assert failed.value is AWAY
        assert (shelves.collections, shelves.removed) == ({}, [STORE])


class Late(Shelves):
    """Of whose first creation nothing is heard, whether or not it took place."""

    def __init__(self, failure: Failure, *, takes_place: bool) -> None:
        super().__init__()
        self.failure = failure
        self.takes_place = takes_place
        self.first = True
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def create(self, *asked: Any) -> Collection:
        if not self.first:
            return await super().create(*asked)
        self.first = False
        if self.takes_place:
            await super().create(*asked)
        if self.meanwhile is not None:
            await self.meanwhile()
        raise self.failure


@pytest.mark.parametrize("takes_place", [True, False])
@pytest.mark.parametrize("failure", [AWAY, Failure(Reason.DEADLINE_EXCEEDED), Failure(Reason.CALL_CANCELLED)])
async def test_a_store_of_which_it_is_not_known_whether_it_was_made_is_taken_back(
    failure: Failure, takes_place: bool
) -> None:
    shelves = Late(failure, takes_place=takes_place)
    with serving(replace(ASKING, deadline_seconds=0.0)), pytest.raises(Failure) as failed:
        await made(creation(shelves), request_id="")
    assert failed.value is failure
    assert (shelves.collections, len(shelves.removed), len(set(shelves.asked))) == ({}, 1, 1)
    (left,) = shelves.deadlines
    assert left is not None
    assert left > 1


async def test_what_was_not_made_by_a_creation_without_an_answer_is_not_taken_back() -> None:
    shelves = Late(AWAY, takes_place=False)
    shelves.first = False
    await made(creation(shelves))
    shelves.first = True
    with pytest.raises(Failure) as failed:
        await made(creation(shelves))
    assert failed.value is AWAY
    assert (list(shelves.collections), shelves.removed) == ([STORE], [])


async def test_a_store_that_is_refused_is_not_asked_for_again() -> None:
    shelves = Late(Failure(Reason.FIELD_INVALID, field="name", problem="x"), takes_place=False)
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FIELD_INVALID):
        await made(creation(shelves))
    assert (shelves.asked, shelves.removed) == ([], [])


async def test_a_repeat_finds_the_store_of_the_first_and_puts_nothing_there_again() -> None:
    shelves = Shelves()
    making = creation(shelves)
    first, second = await made(making), await made(making)
    assert first == second
    assert sorted(shelves.put_there) == ["f1", "f2", "f3"]
    # As another gateway finds it, whose process died in the middle of it.
    shelves.held[STORE].remove("f2")
    assert (await made(creation(shelves))).holdings.files.total == 3
    assert sorted(shelves.put_there) == ["f1", "f2", "f2", "f3"]


async def test_a_repeat_takes_away_nothing_of_what_the_first_made() -> None:
    shelves = Shelves()
    making = creation(shelves)
    await made(making)
    shelves.held[STORE].remove("f2")
    for fails in (AWAY, None):
        shelves.stops_at, shelves.fails = "f2", fails
        if fails is not None:
            with pytest.raises(Failure):
                await made(making)
        else:
            task = await left_at(making, shelves, "f2")
            await asyncio.wait([task])
        assert (list(shelves.collections), shelves.removed) == ([STORE], [])


@pytest.mark.parametrize(
    "other",
    [
        replace(DRAFT, name="Fares"),
        replace(DRAFT, description=""),
        replace(DRAFT, metadata={}),
        replace(DRAFT, expire_after_days=0),
        replace(DRAFT, files=("f1", "f2")),
        replace(DRAFT, files=("f4", "f5", "f6")),
    ],
)
async def test_another_request_under_the_same_id_is_refused_and_changes_nothing(other: StoreDraft) -> None:
    shelves = Shelves()
    making = creation(shelves)
    await made(making)
    with pytest.raises(Failure) as refused:
        await made(making, other)
    assert (refused.value.reason, refused.value.field) == (Reason.REQUEST_ID_REUSED, "request_id")
    assert (sorted(shelves.held[STORE]), shelves.removed) == (["f1", "f2", "f3"], [])


async def test_what_another_process_takes_back_meanwhile_is_made_anew() -> None:
    shelves = Shelves()
    await made(creation(shelves))
    look = shelves.collection

    async def gone(name: str) -> Collection:
        shelves.collections.clear()
        return await look(name)

    shelves.collection = gone  # type: ignore[method-assign]  # it goes when it is looked for
    assert (await made(creation(shelves))).holdings.files.total == 3


async def left_in_removal(making: Creation, shelves: Shelves, step: str) -> asyncio.Task[Store]:
    """A creation whose caller leaves at a step, and whose store is about to be taken back."""
    task = await left_at(making, shelves, step)
    shelves.stopped.clear()
    shelves.stops_at = "remove"
    async with asyncio.timeout(HANG_SECONDS):
        await shelves.stopped.wait()
    return task


@pytest.mark.parametrize("step", ["created", "f2", "holdings"])
async def test_what_another_process_has_found_is_not_taken_back(step: str) -> None:
    shelves = Shelves()
    if step == "created":
        task = await left_at(creation(shelves), shelves, step)
    else:
        task = await left_in_removal(creation(shelves), shelves, step)
    shelves.stops_at = ""
    store = await made(creation(shelves))
    shelves.goes_on.set()
    await asyncio.wait([task])
    assert task.cancelled()
    assert (store.holdings.files.total, shelves.removed) == (3, [])
    assert list(shelves.collections) == [STORE]


async def test_what_another_process_has_found_is_not_taken_back_where_nothing_was_heard_of_its_creation() -> None:
    shelves = Late(AWAY, takes_place=True)
    found: list[Store] = []

    async def meanwhile() -> None:
        found.append(await made(creation(shelves)))

    shelves.meanwhile = meanwhile
    with pytest.raises(Failure):
        await made(creation(shelves))
    (store,) = found
    assert (store.holdings.files.total, shelves.removed, list(shelves.collections)) == (3, [], [STORE])


async def test_what_is_taken_back_between_a_look_at_it_and_its_keeping_is_made_anew() -> None:
    shelves = Shelves()
    task = await left_in_removal(creation(shelves), shelves, "f1")
    keep = shelves.keep

    async def late(name: str, etag: str) -> None:
        shelves.goes_on.set()
        await asyncio.wait([task])
        await keep(name, etag)

    shelves.keep = late  # type: ignore[method-assign]  # what was looked at goes before it is kept
    store = await made(creation(shelves))
    assert (store.holdings.files.total, shelves.removed) == (3, [STORE])
    assert list(shelves.collections) == [STORE]


async def test_repeats_in_several_processes_at_once_are_all_answered_with_one_store() -> None:
    shelves = Shelves()
    first = await made(creation(shelves))
    stores = await asyncio.gather(*(made(creation(shelves)) for _ in range(4)))
    assert {store.collection.collection for store in stores} == {STORE}
    assert all(store.holdings == first.holdings for store in stores)
    assert shelves.removed == []


async def test_without_an_id_of_the_callers_each_is_a_store_of_its_own_and_tenants_do_not_wait_for_each_other() -> None:
    shelves = Shelves()
    making = creation(shelves)
    first, second = await made(making, request_id=""), await made(making, request_id="")
    assert first.collection.collection != second.collection.collection
    with serving(ASKING):
        shelves.stops_at = "f1"
        task = asyncio.create_task(made(making))
        async with asyncio.timeout(HANG_SECONDS):
            await shelves.stopped.wait()
    shelves.stops_at = ""
    with serving(replace(ASKING, tenant_id="bob")), suppress(Failure):
        # In this one retriever it is the same collection; what counts is that nobody waits.
        async with asyncio.timeout(HANG_SECONDS):
            await making.store(DRAFT, REQUEST)
    task.cancel()
    await asyncio.wait([task])
