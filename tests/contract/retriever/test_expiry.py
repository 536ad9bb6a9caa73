from trivium.retriever.v1 import retriever_pb2 as pb

from tests.stack import eventually, refused


def shown(reader, collection):
    return reader.api.GetCollection(pb.GetCollectionRequest(collection=collection)).collection


def test_a_collection_that_nobody_used_for_its_time_is_emptied_and_can_only_be_looked_at_and_deleted(reader):
    reader.add("a.md", "# A\n\nHerring and mustard.")
    asked = pb.UpdateCollectionRequest(collection=reader.collection, expire_after_seconds=1)
    changed = reader.api.UpdateCollection(asked).collection
    assert changed.expire_after_seconds == 1
    assert changed.expire_time.ToSeconds() - changed.last_active_time.ToSeconds() == 1
    eventually(lambda: shown(reader, reader.collection).expired, "the collection expires")
    assert reader.statistics().documents == 0
    assert list(reader.api.ListDocuments(pb.ListDocumentsRequest(collection=reader.collection)).documents) == []
    for use in (
        lambda: reader.search("herring"),
        lambda: reader.put("b.md", "# B"),
        lambda: reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection=reader.collection, title="t")),
        lambda: reader.api.CreateDocumentBatch(pb.CreateDocumentBatchRequest(collection=reader.collection)),
    ):
        with refused("COLLECTION_EXPIRED"):
            use()
    reader.api.DeleteCollection(pb.DeleteCollectionRequest(collection=reader.collection))
    reader.create(reader.collection)
    reader.add("a.md", "# A\n\nHerring and mustard.")
    assert len(reader.search("herring")) == 1


def test_what_expires_is_gone_for_good_after_a_kill_too(reader, library):
    reader.add("a.md", "# A\n\nHerring and mustard.")
    reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection=reader.collection, expire_after_seconds=1))
    eventually(lambda: shown(reader, reader.collection).expired, "the collection expires")
    library.restart()
    assert shown(reader, reader.collection).expired
    with refused("COLLECTION_EXPIRED"):
        reader.search("herring")


def test_a_collection_that_never_expires_says_so(reader):
    made = reader.create("kept")
    assert (made.expire_after_seconds, made.expired, made.HasField("expire_time")) == (0, False, False)
    assert made.last_active_time == made.create_time


def test_title_and_metadata_of_a_collection_are_kept_and_changed_whole(reader):
    made = reader.create("labelled", title="Tide tables", metadata={"team": "harbour", "year": "2026"})
    assert (made.title, dict(made.metadata)) == ("Tide tables", {"team": "harbour", "year": "2026"})
    only_title = pb.UpdateCollectionRequest(collection="labelled", title="Tides")
    changed = reader.api.UpdateCollection(only_title).collection
    assert (changed.title, dict(changed.metadata)) == ("Tides", {"team": "harbour", "year": "2026"})
    wanted = pb.CollectionMetadata(values={"team": "port"})
    changed = reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection="labelled", metadata=wanted)).collection
    assert (changed.title, dict(changed.metadata)) == ("Tides", {"team": "port"})


def test_collections_are_listed_by_age_from_an_entry_on_and_up_to_one(reader):
    for name in ("b", "a", "d", "c"):
        reader.create(name)

    def listed(**fields):
        request = pb.ListCollectionsRequest(order=pb.LIST_ORDER_NEWEST_FIRST, **fields)
        return [item.collection for item in reader.api.ListCollections(request).collections]

    assert listed() == ["c", "d", "a", "b", reader.collection]
    assert listed(after="d", page_size=2) == ["a", "b"]
    assert listed(before="b", page_size=2) == ["d", "a"]
    with refused("FIELD_INVALID"):
        listed(after="d", before="b")
    with refused("COLLECTION_NOT_FOUND"):
        listed(after="never")


def test_documents_are_listed_by_age_and_by_state(reader):
    for name in ("b.md", "a.md"):
        reader.add(name, f"# {name}\n\nHerring.")
    reader.add("broken.pdf", b"%PDF-1.7\nno more")

    def listed(**fields):
        request = pb.ListDocumentsRequest(collection=reader.collection, **fields)
        return [item.document for item in reader.api.ListDocuments(request).documents]

    assert listed(order=pb.LIST_ORDER_OLDEST_FIRST) == ["b.md", "a.md", "broken.pdf"]
    assert listed(states=[pb.INGESTION_STATE_FAILED]) == ["broken.pdf"]
    assert listed(order=pb.LIST_ORDER_NEWEST_FIRST, after="a.md") == ["b.md"]


def test_other_metadata_counts_for_searches_at_once_and_embeds_nothing(reader):
    before = reader.add("a.md", "# A\n\nHerring and mustard.", metadata={"kind": "note"})
    values = {"year": pb.MetadataValue(number=2026), "open": pb.MetadataValue(flag=True)}
    request = pb.UpdateDocumentRequest(collection=reader.collection, document="a.md", typed_metadata=values)
    changed = reader.api.UpdateDocument(request).document
    assert (dict(changed.metadata), changed.typed_metadata["year"].number) == ({}, 2026)
    assert (changed.state, changed.update_time) == (before.state, before.update_time)
    assert reader.search("herring", metadata_equals={"kind": "note"}) == []
    condition = pb.FilterCondition(field="year", operator=pb.FILTER_OPERATOR_EQUAL, values=[values["year"]])
    (hit,) = reader.search("herring", filter=pb.Filter(condition=condition), with_metadata=True)
    assert (hit.metadata["year"].number, hit.metadata["open"].flag) == (2026, True)
    assert reader.statistics().vectors_computed == 1


def test_sizes_are_those_of_the_bytes_as_they_came(reader):
    text = "# Å\n\nHerring and mustard.\r\n"
    assert reader.add("a.md", text).source_bytes == len(text.encode())
    reader.add("b.md", "# B")
    assert reader.statistics().source_bytes == len(text.encode()) + 3
