import grpc
import pytest
from trivium.access.v1 import access_pb2
from trivium.gateway.v1 import files_pb2, files_pb2_grpc
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from tests.stack import Api, eventually, refused

FARES = "# Fares\n\nAn adult's day ticket is 9 crowns. A child's day ticket is 4 crowns."
FOG = "# Fog\n\nIn fog the boats sail at half speed and sound one long blast."


def made(visitor, *texts, **fields):
    files = [visitor.file(text) for text in texts]
    store = visitor.stores.CreateVectorStore(pb.CreateVectorStoreRequest(files=files, **fields)).vector_store
    return settled(visitor, store.vector_store), files


def settled(visitor, store):
    def done():
        found = visitor.stores.GetVectorStore(pb.GetVectorStoreRequest(vector_store=store)).vector_store
        return found if found.status != pb.VECTOR_STORE_STATUS_IN_PROGRESS else None

    return eventually(done, "nothing waits in the store")


def search(visitor, store, *queries, **fields):
    request = pb.SearchVectorStoreRequest(vector_store=store, queries=queries, **fields)
    return visitor.stores.SearchVectorStore(request)


def test_a_store_is_made_of_files_and_says_what_is_in_it(visitor):
    store, files = made(visitor, FARES, FOG, name="Ferry", metadata={"line": "north"}, expire_after_days=3)
    assert (store.name, dict(store.metadata), store.status) == (
        "Ferry",
        {"line": "north"},
        pb.VECTOR_STORE_STATUS_COMPLETED,
    )
    assert (store.file_counts.completed, store.file_counts.total) == (2, 2)
    assert store.usage_bytes == len(FARES.encode()) + len(FOG.encode())
    assert store.expire_time.seconds - store.last_active_time.seconds == 3 * 86400
    request = pb.ListVectorStoreFilesRequest(vector_store=store.vector_store)
    assert {item.file for item in visitor.stores.ListVectorStoreFiles(request).files} == set(files)


def test_a_search_finds_characters_of_files_whose_attributes_pass(visitor):
    store, _ = made(visitor, FOG)
    draft = pb.VectorStoreFileDraft(
        file=visitor.file(FARES, "fares.md"), attributes={"year": retriever_pb2.MetadataValue(number=2026)}
    )
    put = pb.CreateVectorStoreFileRequest(vector_store=store.vector_store, file=draft)
    visitor.stores.CreateVectorStoreFile(put)
    settled(visitor, store.vector_store)
    condition = retriever_pb2.FilterCondition(
        field="year",
        operator=retriever_pb2.FILTER_OPERATOR_EQUAL,
        values=[retriever_pb2.MetadataValue(number=2026)],
    )
    found = search(visitor, store.vector_store, "How do boats sail?", filter=retriever_pb2.Filter(condition=condition))
    (hit,) = found.hits
    assert (hit.file, hit.filename, hit.attributes["year"].number) == (draft.file, "fares.md", 2026)
    request = pb.GetVectorStoreFileContentRequest(vector_store=store.vector_store, file=draft.file)
    text = "".join(piece.text for piece in visitor.stores.GetVectorStoreFileContent(request))
    assert text[hit.passage.start : hit.passage.end] == hit.text
    assert list(found.search_queries) == ["How do boats sail?"]


def test_a_threshold_leaves_out_what_scores_less_and_several_queries_have_no_score(visitor):
    store, _ = made(visitor, FARES, FOG)
    name = store.vector_store
    best, *_ = search(visitor, name, "day ticket").hits
    at_least = pb.RankingOptions(score_threshold=min(1.0, best.score))
    assert [hit.file for hit in search(visitor, name, "day ticket", ranking_options=at_least).hits] == [best.file]
    with refused("FIELD_INVALID") as failures:
        search(visitor, name, "day ticket", "fog", ranking_options=at_least)
    assert failures[0].variables["field"] == "ranking_options.score_threshold"
    with refused("EMBEDDING_MODEL_NOT_FOUND"):
        search(visitor, name, "day ticket", ranking_options=pb.RankingOptions(ranker="default-2024-11-15"))


def test_a_batch_tells_of_a_file_that_cannot_be_read_and_keeps_the_others(visitor):
    store, _ = made(visitor)
    good, bad = visitor.file(FARES), visitor.file(b"\x89PNG", "photo.md")
    request = pb.CreateVectorStoreFileBatchRequest(
        vector_store=store.vector_store,
        files=[pb.VectorStoreFileDraft(file=good), pb.VectorStoreFileDraft(file=bad)],
    )
    batch = visitor.stores.CreateVectorStoreFileBatch(request).batch
    settled(visitor, store.vector_store)
    asked = pb.GetVectorStoreFileBatchRequest(vector_store=store.vector_store, batch=batch.batch)
    batch = visitor.stores.GetVectorStoreFileBatch(asked).batch
    assert (batch.state, batch.file_counts.completed, batch.file_counts.failed) == (
        retriever_pb2.BATCH_STATE_COMPLETED,
        1,
        1,
    )
    listing = pb.ListVectorStoreFileBatchFilesRequest(
        vector_store=store.vector_store, batch=batch.batch, status=pb.VECTOR_STORE_FILE_STATUS_FAILED
    )
    (failed,) = visitor.stores.ListVectorStoreFileBatchFiles(listing).files
    assert (failed.file, failed.refused) == (bad, True)
    assert "not text" in failed.problem


def test_a_file_that_is_not_there_is_told_before_anything_is_made(visitor):
    good = visitor.file(FARES)
    before = len(visitor.stores.ListVectorStores(pb.ListVectorStoresRequest()).vector_stores)
    with refused("FILE_NOT_FOUND"):
        visitor.stores.CreateVectorStore(pb.CreateVectorStoreRequest(files=[good, "file-never"]))
    assert len(visitor.stores.ListVectorStores(pb.ListVectorStoresRequest()).vector_stores) == before


def test_a_deleted_file_of_a_store_is_still_a_file(visitor):
    store, (file,) = made(visitor, FARES)
    request = pb.DeleteVectorStoreFileRequest(vector_store=store.vector_store, file=file)
    visitor.stores.DeleteVectorStoreFile(request)
    with refused("DOCUMENT_NOT_FOUND"):
        visitor.stores.DeleteVectorStoreFile(request)
    assert visitor.keeper.read(file) == FARES.encode()


@pytest.mark.parametrize("door", ["grpc", "http"])
def test_a_deleted_file_leaves_every_store_and_other_files_stay(visitor, front, door):
    store, (file, other) = made(visitor, FARES, FOG)
    second, _ = made(visitor)
    draft = pb.VectorStoreFileDraft(file=file)
    visitor.stores.CreateVectorStoreFile(pb.CreateVectorStoreFileRequest(vector_store=second.vector_store, file=draft))
    if door == "grpc":
        with grpc.insecure_channel(front.process.address) as channel:
            files = Api(files_pb2_grpc.FileServiceStub(channel), visitor.key)
            files.DeleteFile(files_pb2.DeleteFileRequest(file=file))
    else:
        assert visitor.ask("DELETE", f"/files/{file}").json() == {"id": file, "object": "file", "deleted": True}
    for name, left in ((store.vector_store, [other]), (second.vector_store, [])):
        listed = visitor.stores.ListVectorStoreFiles(pb.ListVectorStoreFilesRequest(vector_store=name)).files
        assert [item.file for item in listed] == left
    assert {hit.file for hit in search(visitor, store.vector_store, "day ticket").hits} <= {other}
    assert visitor.ask("DELETE", f"/files/{file}").json()["error"]["code"] == "file_not_found"


def test_another_tenant_deletes_nothing_by_a_file_of_ours(visitor, front):
    store, (file,) = made(visitor, FARES)
    assert front.newcomer().ask("DELETE", f"/files/{file}").json()["error"]["code"] == "file_not_found"
    listed = visitor.stores.ListVectorStoreFiles(pb.ListVectorStoreFilesRequest(vector_store=store.vector_store)).files
    assert [item.file for item in listed] == [file]
    assert visitor.keeper.read(file) == FARES.encode()


def test_who_may_not_delete_documents_deletes_a_file_only_where_it_is_none(visitor, front):
    store, (file,) = made(visitor, FARES)
    loose = visitor.file(FOG)
    member = visitor.holding(front.stack.tenant_key(visitor.keeper.tenant, access_pb2.ROLE_MEMBER))
    assert member.ask("DELETE", f"/files/{file}").json()["error"]["code"] == "role_missing"
    assert visitor.keeper.read(file) == FARES.encode()
    listed = visitor.stores.ListVectorStoreFiles(pb.ListVectorStoreFilesRequest(vector_store=store.vector_store)).files
    assert [item.file for item in listed] == [file]
    assert member.ask("DELETE", f"/files/{loose}").json()["deleted"]


def test_a_file_that_is_a_document_for_other_readers_stays_until_an_owner_deletes_it(visitor, front, library):
    store, (file,) = made(visitor, FARES)
    second, _ = made(visitor)
    draft = pb.VectorStoreFileDraft(file=file)
    visitor.stores.CreateVectorStoreFile(pb.CreateVectorStoreFileRequest(vector_store=second.vector_store, file=draft))
    header = retriever_pb2.DocumentHeader(collection=store.vector_store, document=file, readers=["hr"])
    library.api(visitor.key).PutDocument(retriever_pb2.PutDocumentRequest(header=header, content=FARES.encode()))
    for role in (access_pb2.ROLE_MEMBER, access_pb2.ROLE_DEVELOPER):
        other = visitor.holding(front.stack.tenant_key(visitor.keeper.tenant, role))
        answer = other.ask("DELETE", f"/files/{file}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "file_restricted")
    assert visitor.keeper.read(file) == FARES.encode()

    def held():
        names = (store.vector_store, second.vector_store)
        asked = [pb.ListVectorStoreFilesRequest(vector_store=name) for name in names]
        return [[item.file for item in visitor.stores.ListVectorStoreFiles(it).files] for it in asked]

    assert held() == [[file], [file]]
    assert visitor.ask("DELETE", f"/files/{file}").json()["deleted"]
    assert held() == [[], []]


def test_another_tenants_store_and_file_look_missing(visitor, front):
    store, (file,) = made(visitor, FARES)
    other = front.newcomer()
    with refused("COLLECTION_NOT_FOUND"):
        search(other, store.vector_store, "day ticket")
    mine, _ = made(other, FOG)
    draft = pb.VectorStoreFileDraft(file=file)
    with refused("FILE_NOT_FOUND"):
        other.stores.CreateVectorStoreFile(pb.CreateVectorStoreFileRequest(vector_store=mine.vector_store, file=draft))


def test_what_the_http_door_does_not_support_is_refused_by_name(visitor):
    store = visitor.ask("POST", "/vector_stores", {"name": "n"}).json()["id"]
    static = {"type": "static", "static": {"max_chunk_size_tokens": 800, "chunk_overlap_tokens": 400}}
    for path, body, param in (
        ("/vector_stores", {"chunking_strategy": static}, "chunking_strategy.static"),
        ("/vector_stores", {"colour": "red"}, "colour"),
        (f"/vector_stores/{store}/search", {"query": "q", "max_num_results": 0}, "max_num_results"),
        (f"/vector_stores/{store}/search", {"query": "q", "max_num_results": 51}, "max_num_results"),
        (f"/vector_stores/{store}/search", {"query": "q", "ranking_options": {"hybrid": 1}}, "ranking_options.hybrid"),
        (f"/vector_stores/{store}/file_batches", {}, "file_ids"),
    ):
        answer = visitor.ask("POST", path, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    answer = visitor.ask("GET", f"/vector_stores/{store}/files", filter="cancelled")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parameter_unsupported")
    answer = visitor.ask("GET", "/vector_stores/vs_never")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "vector_store_id")


def test_a_list_by_http_goes_on_and_back_from_an_entry(visitor):
    ids = [visitor.ask("POST", "/vector_stores", {"name": name}).json()["id"] for name in "abc"]

    def listed(**query):
        page = visitor.ask("GET", "/vector_stores", **query).json()
        return [item["id"] for item in page["data"]], page["has_more"]

    assert listed() == (ids[::-1], False)
    assert listed(limit="2", order="asc") == (ids[:2], True)
    assert listed(after=ids[1]) == ([ids[0]], False)
    assert listed(before=ids[0], limit="1") == ([ids[1]], True)


def test_null_takes_away_what_a_store_had_and_what_is_not_named_stays(visitor):
    body = {"name": "n", "metadata": {"a": "b"}, "expires_after": {"anchor": "last_active_at", "days": 2}}
    store = visitor.ask("POST", "/vector_stores", body).json()
    assert store["expires_after"] == {"anchor": "last_active_at", "days": 2}
    changed = visitor.ask("POST", f"/vector_stores/{store['id']}", {"expires_after": None}).json()
    assert (changed["expires_after"], changed["expires_at"], changed["metadata"]) == (None, None, {"a": "b"})
    assert visitor.ask("POST", f"/vector_stores/{store['id']}", {"metadata": None}).json()["metadata"] == {}
