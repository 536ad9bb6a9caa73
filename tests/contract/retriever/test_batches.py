import uuid

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.harness.wording import missing
from tests.stack import pages, refused


def brought(reader, *documents, **fields):
    request = pb.CreateDocumentBatchRequest(collection=reader.collection, documents=documents, **fields)
    return reader.api.CreateDocumentBatch(request).batch


def listed(reader, batch, **fields):
    request = pb.ListBatchDocumentsRequest(collection=reader.collection, batch=batch.batch, **fields)
    return [item.document for item in reader.api.ListBatchDocuments(request).documents]


@pytest.fixture
def three(reader):
    for name in ("b.md", "a.md", "c.md"):
        reader.put(name, f"# {name}\n\nHerring of {name}.")
    batch = brought(
        reader, "b.md", "a.md", "c.md", refused=[pb.RefusedDocument(document="d.bin", reason="it is a PNG image")]
    )
    reader.settled()
    return batch


def counted(reader, batch):
    request = pb.GetDocumentBatchRequest(collection=reader.collection, batch=batch.batch)
    return reader.api.GetDocumentBatch(request).batch


def test_a_batch_is_as_far_as_its_documents_are(reader, three):
    now = counted(reader, three)
    assert (now.state, now.pending, now.ready, now.failed, now.gone) == (pb.BATCH_STATE_COMPLETED, 0, 3, 1, 0)
    reader.delete("a.md")
    now = counted(reader, three)
    assert (now.ready, now.failed, now.gone) == (2, 1, 1)


def test_a_batch_lists_its_documents_in_its_order_and_what_was_refused_as_failed(reader, three):
    assert listed(reader, three) == ["b.md", "a.md", "c.md", "d.bin"]
    assert listed(reader, three, order=pb.LIST_ORDER_NEWEST_FIRST, after="c.md") == ["a.md", "b.md"]
    assert listed(reader, three, before="c.md", page_size=1) == ["a.md"]
    assert listed(reader, three, states=[pb.INGESTION_STATE_READY]) == ["b.md", "a.md", "c.md"]
    request = pb.ListBatchDocumentsRequest(
        collection=reader.collection, batch=three.batch, states=[pb.INGESTION_STATE_FAILED]
    )
    (failed,) = reader.api.ListBatchDocuments(request).documents
    assert (failed.document, missing(failed.reason, "PNG")) == ("d.bin", [])

    def page(token):
        request = pb.ListBatchDocumentsRequest(
            collection=reader.collection, batch=three.batch, page_size=3, page_token=token
        )
        return reader.api.ListBatchDocuments(request)

    assert [item.document for item in pages(page, "documents")] == ["b.md", "a.md", "c.md", "d.bin"]
    with refused("DOCUMENT_NOT_FOUND"):
        listed(reader, three, after="never.md")


def test_a_cancelled_batch_keeps_what_is_searchable_and_loses_what_is_not(reader, three):
    # Converted in the background, and never: it is no PDF behind its first line.
    reader.put("slow.pdf", b"%PDF-1.7\n" + b"0" * 1000)
    batch = brought(reader, "a.md", "slow.pdf")
    request = pb.CancelDocumentBatchRequest(collection=reader.collection, batch=batch.batch)
    left = reader.api.CancelDocumentBatch(request).batch
    assert left.state == pb.BATCH_STATE_CANCELLED
    assert left.ready == 1
    assert left.pending == 0
    assert left.failed + left.gone == 1
    assert reader.api.CancelDocumentBatch(request).batch == left
    assert counted(reader, three).ready == 3


def test_a_batch_of_nothing_is_completed_and_one_of_what_is_not_there_is_refused(reader):
    assert brought(reader).state == pb.BATCH_STATE_COMPLETED
    with refused("DOCUMENT_NOT_FOUND"):
        brought(reader, "never.md")
    with refused("DOCUMENT_BATCH_NOT_FOUND"):
        counted(reader, pb.DocumentBatch(batch="never"))


def test_a_repeated_request_id_makes_one_batch(reader, three):
    request_id = str(uuid.uuid4())
    assert brought(reader, "a.md", request_id=request_id).batch == brought(reader, "a.md", request_id=request_id).batch


def test_a_batch_is_its_tenants_and_its_collections(reader, library, three):
    other = library.newcomer()
    with refused("COLLECTION_NOT_FOUND"):
        counted(_looking_at(other, reader.collection), three)
    mine = _looking_at(other, other.collection)
    with refused("DOCUMENT_BATCH_NOT_FOUND"):
        counted(mine, three)
    reader.create("second")
    with refused("DOCUMENT_BATCH_NOT_FOUND"):
        counted(_looking_at(reader, "second"), three)


def _looking_at(somebody, collection):
    looking = type(somebody)(somebody.api, somebody.tenant)
    looking.collection = collection
    return looking
