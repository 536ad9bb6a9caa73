"""Nothing of a tenant's documents reaches another: no row, score, name or vector."""

import pytest
from trivium.access.v1 import access_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.library import Reader
from tests.stack import refused

SECRET = "# Plans\n\nThe lighthouse is sold on the ninth of May for 77 crowns."


@pytest.fixture
def owner(library):
    """Somebody with a secret."""
    reader = library.newcomer()
    reader.add("plans.md", SECRET)
    return reader


def everything(collection, document, version):
    """A request of every kind that names the collection, and the RPC that takes it."""
    named = {"collection": collection}
    one = {**named, "document": document}
    header = pb.DocumentHeader(**one)
    return {
        "GetCollection": pb.GetCollectionRequest(**named),
        "UpdateCollection": pb.UpdateCollectionRequest(**named, description="mine"),
        "DeleteCollection": pb.DeleteCollectionRequest(**named),
        "PutDocument": pb.PutDocumentRequest(header=header, content=b"mine"),
        "GetDocument": pb.GetDocumentRequest(**one),
        "ListDocuments": pb.ListDocumentsRequest(**named),
        "ListDocumentVersions": pb.ListDocumentVersionsRequest(**one),
        "GetDocumentText": pb.GetDocumentTextRequest(**one, version=version),
        "DeleteDocument": pb.DeleteDocumentRequest(**one),
        "Search": pb.SearchRequest(collections=[collection], queries=["lighthouse"]),
        "Aggregate": pb.AggregateRequest(**named, keywords="lighthouse"),
        "Summarize": pb.SummarizeRequest(**named),
        "GetStatistics": pb.GetStatisticsRequest(**named),
        "ListSources": pb.ListSourcesRequest(**named),
    }


def test_another_tenants_collection_and_a_missing_one_look_the_same(library, owner):
    stranger = library.newcomer()
    version = owner.get("plans.md").serving_version
    foreign = everything(owner.collection, "plans.md", version)
    missing = everything("c-nowhere", "plans.md", version)
    for rpc, request in foreign.items():
        answers = []
        for name, asked in ((owner.collection, request), ("c-nowhere", missing[rpc])):
            with refused("COLLECTION_NOT_FOUND") as failures:
                getattr(stranger.api, rpc)(asked)
            answers.append((failures[0].code, failures[0].message.replace(name, "NAME")))
        # The suggestion is a name of the stranger's own, if one is near.
        nearest = f" Names like it: {stranger.collection}."
        assert len({(code, text.replace(nearest, " Names like it: none.")) for code, text in answers}) == 1, rpc
        assert owner.collection not in answers[0][1]
    with refused("COLLECTION_NOT_FOUND"):
        list(stranger.watch(collection=owner.collection))
    assert owner.text("plans.md") == SECRET


def test_collections_of_one_name_stay_apart(library, owner):
    stranger = library.newcomer()
    stranger.create(owner.collection)
    stranger.collection = owner.collection
    stranger.add("plans.md", "# Plans\n\nWe bake bread.")
    assert {hit.text for hit in stranger.search("lighthouse sold", top_k=100)} == {"# Plans\n\nWe bake bread."}
    listed = stranger.api.ListCollections(pb.ListCollectionsRequest()).collections
    assert {item.name.split("/")[1] for item in listed} == {stranger.tenant}
    stranger.api.DeleteCollection(pb.DeleteCollectionRequest(collection=owner.collection))
    assert "77 crowns" in owner.search("lighthouse")[0].text


def test_what_others_store_moves_no_score(library, owner):
    before = [(hit.chunk, hit.score, hit.sparse_score) for hit in owner.search("lighthouse crowns")]
    stranger = library.newcomer()
    for number in range(10):
        stranger.put(f"d{number}.txt", f"A lighthouse, {number} crowns, and a lighthouse again.")
    stranger.settled()
    assert [(hit.chunk, hit.score, hit.sparse_score) for hit in owner.search("lighthouse crowns")] == before


def test_a_vector_known_to_one_tenant_is_computed_again_for_another(library, owner):
    stranger = library.newcomer()
    stored = stranger.add("plans.md", SECRET)
    assert (stored.chunks_embedded, stored.chunks_reused) == (stored.chunks, 0)


def test_a_page_token_of_another_tenant_is_refused(library, owner):
    owner.create("second")
    token = owner.api.ListCollections(pb.ListCollectionsRequest(page_size=1)).next_page_token
    with refused("PAGE_TOKEN_INVALID"):
        library.newcomer().api.ListCollections(pb.ListCollectionsRequest(page_size=1, page_token=token))


def test_a_request_id_of_another_tenant_says_nothing(library, owner):
    request_id = "11111111-1111-4111-8111-111111111111"
    owner.put("a.txt", "mine", request_id=request_id)
    stranger = library.newcomer()
    assert stranger.put("b.txt", "theirs", request_id=request_id).new_version


def test_a_reader_finds_but_changes_nothing(library, owner):
    key = library.stack.tenant_key(owner.tenant, access_pb2.ROLE_READER)
    reading = Reader(library.api(key), owner.tenant)
    reading.collection = owner.collection
    assert "77 crowns" in reading.search("lighthouse")[0].text
    for change in (
        lambda: reading.put("a.txt", "text"),
        lambda: reading.upload("a.txt", b"text"),
        lambda: reading.delete("plans.md"),
        lambda: reading.create("mine"),
    ):
        with refused("ROLE_MISSING"):
            change()


def test_nobody_is_refused_at_every_door(library):
    for rpc, request in everything("c", "d", "").items():
        with refused("CREDENTIAL_MISSING"):
            getattr(library.api(), rpc)(request)
