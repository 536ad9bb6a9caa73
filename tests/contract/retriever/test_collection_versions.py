"""A collection's version: another one exactly when a search may find something else, and told by whatever looks into it."""

from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.test_filters import number

TEXT = "Smoked herring is served with mustard."


def shown(reader, collection=""):
    request = pb.GetCollectionRequest(collection=collection or reader.collection)
    return reader.api.GetCollection(request).collection.version


def version(reader):
    """The version now, which a search, a count, a summary and the collection itself tell alike."""
    found = shown(reader)
    answer = reader.answer("herring")
    assert [(it.collection, it.version) for it in answer.versions] == [(reader.collection, found)]
    assert reader.api.Aggregate(pb.AggregateRequest(collection=reader.collection)).version == found
    assert reader.api.Summarize(pb.SummarizeRequest(collection=reader.collection)).version == found
    return found


def update(reader, **fields):
    return reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection=reader.collection, **fields)).collection


def changes(reader):
    """What changes what a search of the collection may find, or how it ranks and judges it, one after another."""
    name = {"collection": reader.collection, "document": "a.txt"}
    yield "a document", lambda: reader.add("a.txt", TEXT)
    yield "another text", lambda: reader.add("a.txt", f"{TEXT} Daily.")
    yield "an earlier text again", lambda: reader.add("a.txt", TEXT)
    yield "a title", lambda: reader.add("a.txt", TEXT, title="Herring")
    yield "readers", lambda: reader.add("a.txt", TEXT, title="Herring", readers=["ada"])
    yield "metadata", lambda: reader.api.UpdateDocument(pb.UpdateDocumentRequest(**name, metadata={"shelf": "b"}))
    yield (
        "typed metadata",
        lambda: reader.api.UpdateDocument(pb.UpdateDocumentRequest(**name, typed_metadata={"year": number(2020)})),
    )
    yield "settings", lambda: update(reader, search_settings=pb.SearchSettings(dense_weight=0.3))
    yield "a threshold", lambda: update(reader, answerable_threshold=0.4)
    yield "a deletion", lambda: reader.delete("a.txt")


def no_changes(reader):
    """What is done to a collection and changes nothing of that; ``a.txt`` and a failed ``b.pdf`` are in it."""
    yield "the same text", lambda: reader.add("a.txt", TEXT)
    yield "a document that cannot be read", lambda: reader.add("c.pdf", b"%PDF-1.7 no")
    yield "a title of that", lambda: reader.add("b.pdf", b"%PDF-1.7 no", title="Broken")
    yield "a failed one gone", lambda: reader.delete("b.pdf")
    yield "a description", lambda: update(reader, description="fish", title="Fish")
    yield "the same settings", lambda: update(reader, search_settings=pb.SearchSettings(), answerable_threshold=0.4)
    yield "an expiry", lambda: update(reader, expire_after_seconds=86400)


def test_whatever_changes_what_is_found_changes_the_version_and_none_comes_again(reader):
    seen = [version(reader)]
    for what, change in changes(reader):
        change()
        seen.append(version(reader))
        assert seen[-1] not in seen[:-1], what


def test_what_changes_nothing_that_is_found_leaves_the_version(reader):
    reader.add("a.txt", TEXT)
    reader.add("b.pdf", b"%PDF-1.7 no")
    update(reader, answerable_threshold=0.4)
    was = version(reader)
    for what, change in no_changes(reader):
        change()
        assert version(reader) == was, what


def test_an_update_tells_the_version_that_it_makes(reader):
    changed = update(reader, search_settings=pb.SearchSettings(mode=pb.SEARCH_MODE_SPARSE))
    assert changed.version == shown(reader)


def test_every_collection_of_a_search_is_told_and_a_page_its_own_version(reader):
    other = f"{reader.collection}-2"
    reader.create(other)
    reader.add("a.txt", TEXT)
    reader.add("b.txt", "Herring with bread.", collection=other)
    both = {"collections": [other, reader.collection], "page_size": 1}
    first = reader.answer("herring", **both)
    assert [it.collection for it in first.versions] == both["collections"]
    assert [it.version for it in first.versions] == [shown(reader, other), shown(reader)]
    reader.add("c.txt", "Herring at noon.", collection=other)
    then = reader.answer("herring", **both, page_token=first.next_page_token)
    assert [it.version for it in then.versions] == [shown(reader, other), first.versions[1].version]
    assert then.versions[0].version != first.versions[0].version


def test_a_collection_that_is_made_again_has_no_version_of_the_former(reader):
    was = version(reader)
    reader.api.DeleteCollection(pb.DeleteCollectionRequest(collection=reader.collection))
    assert reader.create(reader.collection).version not in ("", was)
    assert version(reader) != was
