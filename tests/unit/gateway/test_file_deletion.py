"""A file is deleted after the documents that were made of it, and none that comes meanwhile outlives it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.files.deletion import Deletion
from gateway.files.nouns import Holders
from gateway.vector_stores.filing import Filing
from gateway.vector_stores.nouns import FileDraft, FileFacts
from services.chassis.errors import Failure, Reason

AWAY = Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="retriever")


class Shelves:
    """A service of files and a retriever in one, which write down what is done to them."""

    def __init__(self, *stores: str, attached: bool = True) -> None:
        self.stores = list(stores)
        self.there = True
        self.noted = attached
        self.done: list[str] = []
        self.asked = 0
        self.hidden = False
        self.failing: dict[str, Failure] = {}
        # Called when the file is about to go.
        self.meanwhile = lambda: None

    def _require(self) -> None:
        if not self.there:
            raise Failure(Reason.FILE_NOT_FOUND, name="f")

    async def attached(self, file: str) -> bool:
        self._require()
        return self.noted

    async def attach(self, file: str) -> FileFacts:
        self._require()
        self.noted = True
        return FileFacts(file, "f.md", "", 1, "")

    async def require(self, file: str) -> None:
        self._require()

    async def read(self, file: str) -> AsyncIterator[bytes]:
        yield b"x"

    async def delete(self, file: str) -> bool:
        self._require()
        self.meanwhile()
        self.there = False
        self.done.append(file)
        return self.noted

    async def holders(self, document: str) -> Holders:
        self.asked += 1
        if "" in self.failing:
            raise self.failing[""]
        return Holders(tuple(self.stores), self.hidden)

    async def remove_document(self, collection: str, document: str) -> None:
        if collection in self.failing:
            raise self.failing[collection]
        if collection not in self.stores:
            raise Failure(Reason.DOCUMENT_NOT_FOUND, name=document)
        self.stores.remove(collection)
        self.done.append(collection)

    async def put(self, collection: str, draft: FileDraft, facts: FileFacts, content: AsyncIterator[bytes]) -> Any:
        self.stores.append(collection)
        self.meanwhile()
        return collection


def deletion(shelves: Shelves) -> Deletion:
    return Deletion(shelves, shelves)


async def test_the_documents_go_first_and_then_the_file() -> None:
    shelves = Shelves("one", "two")
    await deletion(shelves).delete("f")
    assert shelves.done == ["one", "two", "f"]


async def test_the_retriever_is_not_asked_for_a_file_that_never_was_in_a_store() -> None:
    shelves = Shelves(attached=False)
    shelves.failing[""] = AWAY
    await deletion(shelves).delete("f")
    assert (shelves.done, shelves.asked) == (["f"], 0)


async def test_while_the_retriever_is_away_nothing_is_deleted() -> None:
    shelves = Shelves("one")
    shelves.failing[""] = AWAY
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.PEER_UNAVAILABLE):
        await deletion(shelves).delete("f")
    assert (shelves.done, shelves.there) == ([], True)


async def test_a_deletion_that_breaks_off_is_finished_by_the_next() -> None:
    shelves = Shelves("one", "two")
    shelves.failing["two"] = AWAY
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.PEER_UNAVAILABLE):
        await deletion(shelves).delete("f")
    assert (shelves.stores, shelves.there) == (["two"], True)
    shelves.failing.clear()
    await deletion(shelves).delete("f")
    assert (shelves.stores, shelves.there) == ([], False)


@pytest.mark.parametrize(
    "gone",
    [Failure(Reason.DOCUMENT_NOT_FOUND, name="f"), Failure(Reason.COLLECTION_NOT_FOUND, name="one", nearest="")],
    ids=["the document", "the store"],
)
async def test_what_somebody_else_took_out_meanwhile_is_out(gone: Failure) -> None:
    shelves = Shelves("one", "two")
    shelves.failing["one"] = gone
    await deletion(shelves).delete("f")
    assert shelves.done == ["two", "f"]


async def test_who_may_not_delete_documents_deletes_no_file_that_is_one() -> None:
    shelves = Shelves("one")
    shelves.failing["one"] = Failure(Reason.ROLE_MISSING, required="developer")
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.ROLE_MISSING):
        await deletion(shelves).delete("f")
    assert shelves.there


async def test_a_file_that_is_a_document_which_the_caller_may_not_read_stays_with_all_of_its_documents() -> None:
    shelves = Shelves("one")
    shelves.hidden = True
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FILE_RESTRICTED) as refused:
        await deletion(shelves).delete("f")
    assert "owner" in refused.value.sentence
    assert (shelves.stores, shelves.there, shelves.done) == (["one"], True, [])


@pytest.mark.parametrize("attached", [False, True])
async def test_what_is_put_into_a_store_between_the_look_and_the_deletion_is_taken_out(attached: bool) -> None:
    shelves = Shelves(attached=attached)

    def meanwhile() -> None:
        shelves.noted = True
        shelves.stores.append("late")

    shelves.meanwhile = meanwhile
    await deletion(shelves).delete("f")
    assert (shelves.stores, shelves.there) == ([], False)


@pytest.mark.parametrize("found", [False, True])
async def test_a_file_that_is_deleted_while_it_is_put_into_a_store_is_not_in_it(found: bool) -> None:
    shelves = Shelves(attached=False)

    def meanwhile() -> None:
        # The deletion has looked before it came, or finds it too.
        shelves.there = False
        if found:
            shelves.stores.clear()

    shelves.meanwhile = meanwhile
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FILE_NOT_FOUND):
        await Filing(shelves, shelves).put("store", FileDraft("f"))  # type: ignore[arg-type]  # what is not used is missing
    assert shelves.stores == []


async def test_a_file_is_noted_before_it_is_put_anywhere() -> None:
    shelves = Shelves(attached=False)
    await Filing(shelves, shelves).put("store", FileDraft("f"))  # type: ignore[arg-type]  # what is not used is missing
    assert (shelves.noted, shelves.stores) == (True, ["store"])
