"""Each case of vector stores runs over gRPC and over HTTP, in a new tenant each, with the same answer."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest

from tests.conformance.runner import Grpc, Http, Rejection, Transport
from tests.conformance.tables.vector_stores import OPERATIONS
from tests.front import Front, Visitor
from tests.stack import eventually

FARES = "# Fares\n\nAn adult's day ticket is 9 crowns."
FOG = "# Fog\n\nIn fog the boats sail at half speed."
KEEPER = {"year": 2026, "open": True, "by": "keeper"}
INVALID, NO_STORE = Rejection("request_invalid"), Rejection("collection_not_found")
NO_FILE, NO_DOCUMENT = Rejection("file_not_found"), Rejection("document_not_found")


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a store of two files, over one transport."""

    visitor: Visitor
    transport: Transport
    files: list[str]
    store: str = ""

    def send(self, operation: str, **arguments: Any) -> Any:
        """Return the outcome of an operation on the store, or on another."""
        of_store = {} if operation in ("create", "list") else {"vector_store": self.store}
        return self.transport.send(OPERATIONS[operation], {**of_store, **arguments})

    def create(self, name: str, files: list[str] | None = None, **more: Any) -> Any:
        """Return the outcome of a new store."""
        return self.send("create", name=name, files=files or [], **more)


@pytest.fixture(scope="module", params=["grpc", "http"])
def owner(request: pytest.FixtureRequest, front: Front) -> Iterator[Owner]:
    visitor = front.newcomer()
    files = [visitor.file(FARES, "fares.md"), visitor.file(FOG, "fog.md")]
    with grpc.insecure_channel(front.process.address) as channel, httpx.Client(base_url=visitor.address) as client:
        over: Transport = Grpc(channel, visitor.key) if request.param == "grpc" else Http(client, visitor.key)
        unowned = Owner(visitor, over, files)
        store, *_ = unowned.create("Ferry", files[:1], metadata={"line": "north"}, expire_after_days=3)
        owner = Owner(visitor, over, files, store)
        assert owner.send("create_file", file=files[1], attributes=KEEPER) == (files[1], KEEPER)
        eventually(lambda: owner.send("get")[4] == "completed", "nothing waits in the store")
        yield owner


def test_a_store_says_what_it_is(owner: Owner) -> None:
    assert owner.send("get") == (owner.store, "Ferry", {"line": "north"}, 3, "completed", 2)


def test_a_search_finds_the_same_passages(owner: Owner) -> None:
    fog = (owner.files[1], FOG, KEEPER)
    assert owner.send("search", query="How fast do boats sail in fog?", most=1) == [fog]
    assert owner.send("search", query="day ticket", where=("year", "gte", 2020)) == [fog]
    assert owner.send("search", query="day ticket", where=("open", "eq", False)) == []
    assert [file for file, *_ in owner.send("search", query="day ticket", least=0.9)] == [owner.files[0]]


def test_a_search_is_refused_for_the_same_reasons(owner: Owner) -> None:
    assert owner.send("search", query=" ") == Rejection("question_empty")
    assert owner.send("search", query="q", most=51) == INVALID
    assert owner.send("search", query="q", least=1.5) == INVALID
    assert owner.send("search", query="q", vector_store="vs_never") == NO_STORE
    assert owner.send("search", query="q", where=("year", "gte", True)) == Rejection("filter_invalid")


def test_files_and_their_text_are_the_same(owner: Owner) -> None:
    assert owner.send("list_files", status="completed") == owner.files[::-1]
    assert owner.send("list_files", status="failed") == []
    assert owner.send("get_content", file=owner.files[0]) == FARES
    assert owner.send("get_content", file="file-never") == NO_DOCUMENT
    assert owner.send("create_file", file="file-never", attributes={}) == NO_FILE


def test_files_are_put_there_as_one_and_told_of_as_one(owner: Owner) -> None:
    one, other = owner.files
    store, *_ = owner.create("Put together")
    photo = owner.visitor.file(b"\x89PNG", "photo.md")
    batch = owner.send("create_batch", vector_store=store, files={one: {"year": 2026}, other: {}, photo: {}})
    made = {"vector_store": store, "batch": batch}
    eventually(lambda: owner.send("get_batch", **made)[0] != "in_progress", "nothing of the batch waits")
    assert owner.send("get_batch", **made) == ("completed", 2, 1, 0, 3)
    assert owner.send("list_batch_files", **made, status="completed") == [(other, {}), (one, {"year": 2026})]
    assert [file for file, _ in owner.send("list_batch_files", **made, status="failed")] == [photo]
    # Files that are searchable already stay.
    assert owner.send("cancel_batch", **made) == ("cancelled", 2, 1, 0, 3)
    assert sorted(owner.send("list_files", vector_store=store, status="completed")) == sorted(owner.files)


def test_what_is_no_batch_is_refused_for_the_same_reasons(owner: Owner) -> None:
    missing, file = Rejection("document_batch_not_found"), owner.files[0]
    assert owner.send("get_batch", batch="never") == owner.send("cancel_batch", batch="never") == missing
    assert owner.send("list_batch_files", batch="never", status="completed") == missing
    assert owner.send("create_batch", vector_store="vs_never", files={file: {}}) == NO_STORE
    assert owner.send("create_batch", files={file: {}, "file-never": {}}) == NO_FILE
    assert owner.send("create_batch", files={}) == INVALID
    assert owner.send("create_batch", files={file: {f"n{n}": n for n in range(65)}}) == INVALID


def test_a_file_of_a_store_is_told_described_and_taken_out(owner: Owner) -> None:
    file, described = owner.files[0], {"open": False, "by": "keeper"}
    store, *_ = owner.create("Described", [file])
    inside = {"vector_store": store, "file": file}
    assert owner.send("get_file", **inside) == (file, {})
    assert owner.send("update_file", **inside, attributes=described) == (file, described)
    assert owner.send("get_file", **inside) == (file, described)
    assert owner.send("delete_file", **inside) is True
    assert owner.send("get_file", **inside) == owner.send("delete_file", **inside) == NO_DOCUMENT
    assert owner.send("update_file", **inside, attributes={}) == NO_DOCUMENT


def test_stores_are_listed_the_newest_first(owner: Owner) -> None:
    made = [owner.create(name)[0] for name in ("older", "newer")]
    assert owner.send("list", limit=2) == (made[::-1], True)
    listed, more = owner.send("list", limit=100)
    assert (owner.store in listed, more) == (True, False)
    assert owner.send("list", limit=101) == INVALID


def test_a_store_is_changed_and_deleted(owner: Owner) -> None:
    store, *_ = owner.create("One")
    assert owner.send("update", vector_store=store, name="Two") == (store, "Two", {}, 0, "completed", 0)
    assert owner.send("delete", vector_store=store) is True
    assert owner.send("get", vector_store=store) == owner.send("delete", vector_store=store) == NO_STORE
    assert owner.create("x", ["file-never"]) == NO_FILE


def test_a_store_is_made_once_for_each_id_of_a_request(owner: Owner) -> None:
    own_id, files = str(uuid.uuid4()), owner.files
    same = {"metadata": {"line": "north"}, "expire_after_days": 3, "request_id": own_id}
    store, *_ = owner.create("Once", files, **same)
    assert store == f"vs_{own_id.replace('-', '')}"
    assert owner.create("Once", files, **same)[0] == store
    for name, named in (("Twice", files), ("Once", files[:1])):
        assert owner.create(name, named, **same) == Rejection("request_id_reused")
    # A repeated request adds a file again that was taken out since.
    assert owner.send("delete_file", vector_store=store, file=files[0]) is True
    assert owner.create("Once", files, **same)[5] == 2
    assert owner.send("delete", vector_store=store) is True
    assert owner.create("Once", files, **same)[0] == store
    assert owner.create("Once", files, request_id="no-uuid") in (INVALID, Rejection("bad_request"))
