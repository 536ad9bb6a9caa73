import uuid

from trivium.retriever.v1 import retriever_pb2 as pb

from tests.stack import pages, refused


def test_a_collection_is_shown_as_it_was_created(reader):
    made = reader.create("handbooks", description="for keepers")
    assert made.name == f"tenants/{reader.tenant}/collections/handbooks"
    assert (made.description, made.embedding_digest) == ("for keepers", "")
    found = reader.api.GetCollection(pb.GetCollectionRequest(collection="handbooks")).collection
    assert found == made


def test_a_repeated_request_id_creates_once_and_answers_the_same(reader):
    request_id = str(uuid.uuid4())
    first = reader.create("once", request_id=request_id)
    assert reader.create("once", request_id=request_id) == first
    with refused("REQUEST_ID_REUSED"):
        reader.create("twice", request_id=request_id)


def test_a_second_collection_of_a_name_is_refused(reader):
    with refused("COLLECTION_EXISTS") as failures:
        reader.create(reader.collection)
    assert failures[0].variables["name"] == reader.collection


def test_an_unknown_collection_is_refused_with_the_nearest_names(reader):
    reader.create("handbooks")
    for call, request in (
        (reader.api.GetCollection, pb.GetCollectionRequest(collection="handbook")),
        (reader.api.Search, pb.SearchRequest(collections=["handbook"], queries=["q"])),
        (reader.api.ListDocuments, pb.ListDocumentsRequest(collection="handbook")),
    ):
        with refused("COLLECTION_NOT_FOUND") as failures:
            call(request)
        assert failures[0].variables["nearest"] == "handbooks"


def test_collections_are_listed_by_id_page_after_page(reader):
    for name in ("b", "a", "d", "e"):
        reader.create(name)

    def page(token):
        return reader.api.ListCollections(pb.ListCollectionsRequest(page_size=2, page_token=token))

    listed = [item.collection for item in pages(page, "collections")]
    assert listed == sorted(["a", "b", reader.collection, "d", "e"])
    with refused("PAGE_TOKEN_INVALID"):
        page("nonsense")


def test_collections_are_listed_by_a_document_that_they_hold(reader):
    for name in ("a", "b", "c"):
        reader.create(name)
    for name in ("c", "a"):
        reader.put("fares.md", "A day ticket is 9 crowns.", collection=name)
    reader.put("fog.md", "In fog the boats sail at half speed.", collection="b")

    def page(token):
        return reader.api.ListCollections(pb.ListCollectionsRequest(page_size=1, page_token=token, document="fares.md"))

    assert [item.collection for item in pages(page, "collections")] == ["a", "c"]
    begun = page("").next_page_token
    with refused("PAGE_TOKEN_INVALID"):
        reader.api.ListCollections(pb.ListCollectionsRequest(page_size=1, page_token=begun, document="fog.md"))


def test_a_description_changes_under_the_etag_that_was_seen(reader):
    first = reader.create("etags")
    changed = reader.api.UpdateCollection(
        pb.UpdateCollectionRequest(collection="etags", description="new", etag=first.etag)
    ).collection
    assert changed.description == "new"
    assert changed.etag != first.etag
    with refused("ETAG_MISMATCH"):
        reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection="etags", description="x", etag=first.etag))


def test_a_deleted_collection_takes_all_with_it_and_its_name_begins_anew(reader):
    reader.add("a.md", "# A\n\nHerring and mustard.")
    deleted = reader.api.DeleteCollection(pb.DeleteCollectionRequest(collection=reader.collection))
    assert deleted.documents == 1
    with refused("COLLECTION_NOT_FOUND"):
        reader.search("herring")
    reader.create(reader.collection)
    assert reader.search("herring") == []
    with refused("DOCUMENT_NOT_FOUND"):
        reader.get("a.md")


def test_a_collection_that_changed_since_it_was_read_is_not_deleted_under_the_etag_that_it_had(reader):
    reader.add("a.md", "# A\n\nHerring and mustard.")
    named = {"collection": reader.collection}
    first = reader.api.GetCollection(pb.GetCollectionRequest(**named)).collection
    # A change of nothing is one too.
    kept = reader.api.UpdateCollection(pb.UpdateCollectionRequest(**named, etag=first.etag)).collection
    assert (kept.etag != first.etag, kept.description, kept.title) == (True, first.description, first.title)
    with refused("ETAG_MISMATCH"):
        reader.api.DeleteCollection(pb.DeleteCollectionRequest(**named, etag=first.etag))
    assert len(reader.search("herring")) == 1
    assert reader.api.DeleteCollection(pb.DeleteCollectionRequest(**named, etag=kept.etag)).documents == 1
    # Nor is another one of its name.
    reader.create(reader.collection)
    with refused("ETAG_MISMATCH"):
        reader.api.DeleteCollection(pb.DeleteCollectionRequest(**named, etag=first.etag))


def test_what_is_deleted_cannot_be_deleted_again(reader):
    with refused("COLLECTION_NOT_FOUND"):
        reader.api.DeleteCollection(pb.DeleteCollectionRequest(collection="never"))
    with refused("DOCUMENT_NOT_FOUND"):
        reader.delete("never.md")


def test_statistics_count_what_is_searchable(reader):
    reader.add("a.txt", "One sentence about herring.")
    found = reader.statistics()
    assert (found.documents, found.chunks, found.pending, found.failed, found.vectors_computed) == (1, 1, 0, 0, 1)
    assert found.characters == len("One sentence about herring.")
