"""What a document's readers are not is kept from everybody else of the tenant: by every RPC, and as if it were missing."""

import uuid

import pytest
from trivium.access.v1 import access_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.library import Reader
from tests.stack import refused

SECRET = "# Plans\n\nThe lighthouse is sold on the ninth of May for 77 crowns."


def principal(library, key):
    return library.stack.access_api(key).WhoAmI(access_pb2.WhoAmIRequest()).principal


@pytest.fixture
def owner(library):
    """An owner's key of a tenant with one open document."""
    reader = library.newcomer()
    reader.add("open.md", "# Open\n\nA lighthouse stands at the harbour.")
    return reader


def somebody(library, owner, *roles):
    """Another key of the tenant, and its principal's id."""
    key = library.stack.tenant_key(owner.tenant, *(roles or (access_pb2.ROLE_DEVELOPER,)))
    reader = Reader(library.api(key), owner.tenant)
    reader.collection = owner.collection
    return reader, principal(library, key)


def documents(reader, **fields):
    listed = reader.api.ListDocuments(pb.ListDocumentsRequest(collection=reader.collection, **fields)).documents
    return [item.document for item in listed]


def found(reader, mode=pb.SEARCH_MODE_HYBRID, **fields):
    return {hit.document for hit in reader.search("lighthouse", mode=mode, top_k=100, **fields)}


def one(document, **fields):
    """A request of every kind that shows one document, and its RPC."""
    return {
        "GetDocument": pb.GetDocumentRequest(document=document, **fields),
        "ListDocumentVersions": pb.ListDocumentVersionsRequest(document=document, **fields),
        "GetDocumentText": pb.GetDocumentTextRequest(document=document, **fields),
        "WatchIngestion": pb.WatchIngestionRequest(document=document, **fields),
    }


def answer(reader, rpc, request):
    given = getattr(reader.api, rpc)(request)
    return list(given) if rpc == "WatchIngestion" else given


def test_a_hidden_document_and_a_missing_one_look_the_same_to_every_rpc(library, owner):
    owner.add("plans.md", SECRET, readers=["somebody-else"])
    member, _ = somebody(library, owner)
    for as_readers in ([], ["a-third"]):
        fields = {"collection": owner.collection, "as_readers": as_readers}
        for rpc, request in one("plans.md", **fields).items():
            answers = []
            for asked in (request, one("nowhere.md", **fields)[rpc]):
                with refused("DOCUMENT_NOT_FOUND") as failures:
                    answer(member, rpc, asked)
                answers.append(
                    (failures[0].code, failures[0].message.replace("plans.md", "X").replace("nowhere.md", "X"))
                )
            assert answers[0] == answers[1], rpc
        assert documents(member, as_readers=as_readers) == ["open.md"]
    for document, holders in (("plans.md", []), ("nowhere.md", []), ("open.md", [owner.collection])):
        listed = member.api.ListCollections(pb.ListCollectionsRequest(document=document))
        assert ([item.collection for item in listed.collections], listed.hidden) == (holders, False)
    with refused("DOCUMENT_NOT_FOUND"):
        member.delete("plans.md")
    assert {message.document.document for message in member.watch()} == {"open.md"}
    assert owner.text("plans.md") == SECRET


def test_who_deletes_a_file_hears_that_it_is_a_document_that_he_may_not_read(library, owner):
    file = f"file-{uuid.uuid4().hex}"
    owner.add(file, SECRET, readers=["somebody-else"])
    member, _ = somebody(library, owner)
    for reader, hidden in ((member, True), (owner, False), (library.newcomer(), False)):
        listed = reader.api.ListCollections(pb.ListCollectionsRequest(document=file))
        assert ([item.collection for item in listed.collections] != [], listed.hidden) == (reader is owner, hidden)


@pytest.mark.parametrize("mode", [pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_SPARSE])
def test_a_search_finds_what_its_ids_may_read(library, owner, mode):
    member, _ = somebody(library, owner)
    owner.add("plans.md", SECRET, readers=["anna", "group:board"])
    assert found(member, mode) == {"open.md"}
    assert found(member, mode, as_readers=["anna"]) == {"open.md", "plans.md"}
    assert found(member, mode, as_readers=["ben", "group:board"]) == {"open.md", "plans.md"}
    assert found(member, mode, as_readers=["ben", "group:boards"]) == {"open.md"}
    # An owner manages it, and finds it for those alone who may read it.
    assert found(owner, mode) == {"open.md"}
    assert owner.get("plans.md").readers == ["anna", "group:board"]


def test_counts_are_of_what_may_be_read_alone(library, owner):
    member, _ = somebody(library, owner)
    owner.add("plans.md", SECRET, readers=["anna"], metadata={"kind": "plan"})

    def counted(reader, **fields):
        asked = pb.AggregateRequest(collection=owner.collection, keywords="lighthouse", group_by="kind", **fields)
        answer = reader.api.Aggregate(asked)
        groups = {group.value.text for group in answer.groups}
        return answer.documents, answer.passages, answer.searched, {it.document for it in answer.matches}, groups

    # An owner manages it, and counts what may be read by who is asked for.
    for reader, fields in ((member, {}), (member, {"as_readers": ["ben"]}), (owner, {})):
        assert counted(reader, **fields) == (1, 1, 1, {"open.md"}, {""})
    assert counted(member, as_readers=["anna"]) == (2, 2, 2, {"open.md", "plans.md"}, {"", "plan"})
    reading, _ = somebody(library, owner, access_pb2.ROLE_READER)
    with refused("ROLE_MISSING"):
        counted(reading, as_readers=["anna"])


def test_statistics_are_of_what_may_be_read_alone(library, owner):
    member, _ = somebody(library, owner)
    before = member.statistics()
    assert (before.documents, before.chunks, before.vectors_computed) == (1, 1, 1)
    owner.add("plans.md", SECRET, readers=["anna"])
    owner.add("broken.pdf", b"%PDF-1.4 broken", readers=["anna"])
    after = member.statistics()
    assert after.vectors_computed == 0
    after.vectors_computed = 1
    assert after == before
    whole = owner.statistics()
    assert (whole.documents, whole.chunks, whole.failed, whole.vectors_computed) == (3, 2, 1, 2)


def test_a_summary_says_nothing_of_what_may_not_be_read(library, owner):
    member, _ = somebody(library, owner)

    def said(reader, **fields):
        answer = reader.api.Summarize(pb.SummarizeRequest(collection=owner.collection, **fields))
        cited = {it.document for statement in answer.statements for it in statement.citations}
        return cited, "77 crowns" in answer.text, answer.chunks, answer.nodes_computed + answer.nodes_reused

    owner.add("plans.md", SECRET, readers=["anna"])
    # Who may read it has its nodes computed first: nobody else is told of them.
    assert said(member, as_readers=["anna"]) == ({"open.md", "plans.md"}, True, 2, 2)
    for reader, fields in ((member, {}), (member, {"as_readers": ["ben"]}), (owner, {})):
        for focus in ("", "What is the lighthouse sold for?"):
            assert said(reader, focus=focus, **fields) == ({"open.md"}, False, 1, 1)
    assert said(member, documents=["plans.md"]) == (set(), False, 0, 0)
    # Another list counts at once, both ways.
    owner.put("plans.md", SECRET)
    assert said(member) == ({"open.md", "plans.md"}, True, 2, 1)
    owner.put("plans.md", SECRET, readers=["anna"])
    assert said(member) == ({"open.md"}, False, 1, 1)
    reading, _ = somebody(library, owner, access_pb2.ROLE_READER)
    with refused("ROLE_MISSING"):
        said(reading, as_readers=["anna"])


def test_filters_look_at_what_may_be_read_alone(library, owner):
    member, _ = somebody(library, owner)
    owner.add("plans.md", SECRET, readers=["anna"], typed_metadata={"price": pb.MetadataValue(number=77)})
    text = pb.FilterCondition(field="price", operator=pb.FILTER_OPERATOR_EQUAL, values=[pb.MetadataValue(text="77")])
    # To who may not read it, its metadata have no type.
    assert found(member, filter=pb.Filter(condition=text)) == set()
    with refused("FILTER_TYPE_MISMATCH"):
        found(member, as_readers=["anna"], filter=pb.Filter(condition=text))


def test_the_callers_own_id_is_always_one_of_its_ids(library, owner):
    member, me = somebody(library, owner)
    reading, myself = somebody(library, owner, access_pb2.ROLE_READER)
    owner.add("plans.md", SECRET, readers=[me, myself])
    for reader in (member, reading):
        assert found(reader) == {"open.md", "plans.md"}
        assert reader.text("plans.md") == SECRET
    assert found(member, as_readers=["ben"]) == {"open.md", "plans.md"}


def test_a_reader_states_no_other_ids(library, owner):
    owner.add("plans.md", SECRET, readers=["anna"])
    reading, _ = somebody(library, owner, access_pb2.ROLE_READER)
    with refused("ROLE_MISSING"):
        found(reading, as_readers=["anna"])
    for rpc, request in one("plans.md", collection=owner.collection, as_readers=["anna"]).items():
        with refused("ROLE_MISSING"):
            answer(reading, rpc, request)


def test_another_access_list_counts_at_once_and_embeds_nothing(library, owner):
    member, me = somebody(library, owner)
    ready = owner.add("plans.md", SECRET, readers=["anna"])
    assert found(member) == {"open.md"}
    before = owner.statistics().vectors_computed
    for readers, seen in (([], True), (["anna"], False), ([me], True)):
        put = owner.put("plans.md", SECRET, readers=readers)
        assert (put.new_version, put.document.state) == (False, pb.INGESTION_STATE_READY)
        assert ("plans.md" in found(member)) is seen
        assert ("plans.md" in documents(member)) is seen
    assert owner.statistics().vectors_computed == before
    assert owner.get("plans.md").serving_version == ready.serving_version


def test_who_stored_a_document_manages_it_and_finds_it_for_its_readers_alone(library, owner):
    syncing, _ = somebody(library, owner)
    other, _ = somebody(library, owner)
    syncing.add("plans.md", SECRET, readers=["anna"])
    assert syncing.get("plans.md").readers == ["anna"]
    assert found(syncing) == {"open.md"}
    assert found(syncing, as_readers=["anna"]) == {"open.md", "plans.md"}
    assert syncing.add("plans.md", SECRET + " Quietly.", readers=["anna"]).state == pb.INGESTION_STATE_READY
    with refused("DOCUMENT_NOT_FOUND"):
        other.get("plans.md")
    assert syncing.delete("plans.md") == 1


def test_nobody_puts_over_a_document_that_is_hidden_from_them(library, owner):
    owner.add("plans.md", SECRET, readers=["anna"])
    member, me = somebody(library, owner)
    with refused("DOCUMENT_ID_TAKEN") as failures:
        member.put("plans.md", "mine now", readers=[me])
    assert "plans.md" in failures[0].message
    assert owner.text("plans.md") == SECRET
    assert owner.get("plans.md").readers == ["anna"]


def test_a_hidden_document_that_waits_is_not_counted(library, owner):
    member, _ = somebody(library, owner)
    for number in range(5):
        owner.put(f"plans{number}.md", SECRET + str(number), readers=["anna"])
    assert [message.pending for message in member.watch()] == [0]
    owner.settled()
