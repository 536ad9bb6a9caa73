"""Each case runs over gRPC and over HTTP, in tenants of their own, and both doors say the same."""

import uuid

import pytest
from trivium.gateway.v1 import vector_stores_pb2 as pb

from tests.conformance.store_skins import GrpcStores, HttpStores, Refused
from tests.stack import eventually

FARES = "# Fares\n\nAn adult's day ticket is 9 crowns."
FOG = "# Fog\n\nIn fog the boats sail at half speed."


@pytest.fixture(scope="module", params=[GrpcStores, HttpStores])
def door(request, front):
    """A door, whose visitor has a store of two files."""
    visitor = front.newcomer()
    skin = request.param(visitor)
    files = [visitor.file(FARES, "fares.md"), visitor.file(FOG, "fog.md")]
    store, *_ = skin.create("Ferry", files[:1], {"line": "north"}, 3)
    put = skin.put(store, files[1], {"year": 2026, "open": True, "by": "keeper"})
    assert put == (files[1], {"year": 2026, "open": True, "by": "keeper"})

    def done():
        found = visitor.stores.GetVectorStore(pb.GetVectorStoreRequest(vector_store=store)).vector_store
        return found.status == pb.VECTOR_STORE_STATUS_COMPLETED

    eventually(done, "nothing waits in the store")
    return skin, store, files, visitor


def test_a_store_says_what_it_is(door):
    skin, store, *_ = door
    assert skin.get(store) == (store, "Ferry", {"line": "north"}, 3, "completed", 2)


def test_a_search_finds_the_same_passages(door):
    skin, store, files, _ = door
    fog = (files[1], FOG, {"year": 2026, "open": True, "by": "keeper"})
    assert skin.search(store, "How fast do boats sail in fog?", 1, None, 0.0) == [fog]
    assert skin.search(store, "day ticket", 0, ("year", "gte", 2020), 0.0) == [fog]
    assert skin.search(store, "day ticket", 0, ("open", "eq", False), 0.0) == []
    assert [file for file, *_ in skin.search(store, "day ticket", 0, None, 0.9)] == [files[0]]


def test_a_search_is_refused_for_the_same_reasons(door):
    skin, store, *_ = door
    assert skin.search(store, " ", 0, None, 0.0) == Refused("question_empty")
    assert skin.search(store, "q", 51, None, 0.0) == Refused("request_invalid")
    assert skin.search(store, "q", 0, None, 1.5) == Refused("request_invalid")
    assert skin.search("vs_never", "q", 0, None, 0.0) == Refused("collection_not_found")
    assert skin.search(store, "q", 0, ("year", "gte", True), 0.0) == Refused("filter_invalid")


def test_files_and_their_text_are_the_same(door):
    skin, store, files, _ = door
    assert skin.files(store, "completed") == files[::-1]
    assert skin.files(store, "failed") == []
    assert skin.content(store, files[0]) == FARES
    assert skin.content(store, "file-never") == Refused("document_not_found")
    assert skin.put(store, "file-never", {}) == Refused("file_not_found")


def test_files_are_put_there_as_one_and_told_of_as_one(door):
    skin, _, files, visitor = door
    store, *_ = skin.create("Put together", [], {}, 0)
    photo = visitor.file(b"\x89PNG", "photo.md")
    batch = skin.put_together(store, {files[0]: {"year": 2026}, files[1]: {}, photo: {}})
    eventually(lambda: skin.batch(store, batch)[0] != "in_progress", "nothing of the batch waits")
    assert skin.batch(store, batch) == ("completed", 2, 1, 0, 3)
    assert skin.batch_files(store, batch, "completed") == [(files[1], {}), (files[0], {"year": 2026})]
    assert [file for file, _ in skin.batch_files(store, batch, "failed")] == [photo]
    # What is searchable already stays.
    assert skin.cancel(store, batch) == ("cancelled", 2, 1, 0, 3)
    assert sorted(skin.files(store, "completed")) == sorted(files)


def test_what_is_no_batch_is_refused_for_the_same_reasons(door):
    skin, store, files, _ = door
    missing = Refused("document_batch_not_found")
    assert skin.batch(store, "never") == skin.cancel(store, "never") == missing
    assert skin.batch_files(store, "never", "completed") == missing
    assert skin.put_together("vs_never", {files[0]: {}}) == Refused("collection_not_found")
    assert skin.put_together(store, {files[0]: {}, "file-never": {}}) == Refused("file_not_found")
    assert skin.put_together(store, {}) == Refused("request_invalid")
    assert skin.put_together(store, {files[0]: {f"n{n}": n for n in range(65)}}) == Refused("request_invalid")


def test_a_file_of_a_store_is_told_described_and_taken_out(door):
    skin, _, files, _ = door
    store, *_ = skin.create("Described", [files[0]], {}, 0)
    assert skin.file(store, files[0]) == (files[0], {})
    assert skin.describe(store, files[0], {"open": False, "by": "keeper"}) == (
        files[0],
        {"open": False, "by": "keeper"},
    )
    assert skin.file(store, files[0]) == (files[0], {"open": False, "by": "keeper"})
    assert skin.take_out(store, files[0])
    missing = Refused("document_not_found")
    assert skin.file(store, files[0]) == skin.take_out(store, files[0]) == missing
    assert skin.describe(store, files[0], {}) == missing


def test_stores_are_listed_the_newest_first(door):
    skin, store, *_ = door
    made = [skin.create(name, [], {}, 0)[0] for name in ("older", "newer")]
    assert skin.stores(2) == (made[::-1], True)
    listed, more = skin.stores(100)
    assert (store in listed, more) == (True, False)
    assert skin.stores(101) == Refused("request_invalid")


def test_a_store_is_changed_and_deleted(door):
    skin, *_ = door
    store, *_ = skin.create("One", [], {}, 0)
    assert skin.rename(store, "Two") == (store, "Two", {}, 0, "completed", 0)
    assert skin.remove(store)
    assert skin.get(store) == skin.remove(store) == Refused("collection_not_found")
    assert skin.create("x", ["file-never"], {}, 0) == Refused("file_not_found")


def test_a_store_is_made_once_for_each_id_of_a_request(door):
    skin, _, files, _ = door
    own_id = str(uuid.uuid4())
    store, *_ = skin.create("Once", files, {"line": "north"}, 3, own_id)
    assert store == f"vs_{own_id.replace('-', '')}"
    assert skin.create("Once", files, {"line": "north"}, 3, own_id)[0] == store
    for name, named in (("Twice", files), ("Once", files[:1])):
        assert skin.create(name, named, {"line": "north"}, 3, own_id) == Refused("request_id_reused")
    # What was taken out since is put there by whoever asks for it.
    assert skin.take_out(store, files[0])
    assert skin.create("Once", files, {"line": "north"}, 3, own_id)[5] == 2
    assert skin.remove(store)
    assert skin.create("Once", files, {"line": "north"}, 3, own_id)[0] == store
    assert skin.create("Once", files, {}, 0, "no-uuid") in (Refused("request_invalid"), Refused("bad_request"))
