import hashlib
import uuid

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.harness.wording import missing
from tests.stack import pages, refused
from tests.unit.retriever.formats.building import pdf


def test_a_document_becomes_searchable_and_says_so(reader):
    stored = reader.put("guide.md", GUIDE, metadata={"author": "keeper"})
    assert stored.new_version
    assert stored.document.state in (pb.INGESTION_STATE_PENDING, pb.INGESTION_STATE_RUNNING)
    ready = reader.settled("guide.md")
    assert ready.state == pb.INGESTION_STATE_READY
    assert ready.title == "Harbour handbook"
    assert ready.serving_version == ready.newest_version == hashlib.sha256(GUIDE.encode()).hexdigest()
    assert (ready.media_type, dict(ready.metadata)) == ("text/markdown", {"author": "keeper"})
    assert ready.chunks == ready.chunks_embedded > 3
    assert reader.get("guide.md") == ready
    pinned = reader.api.GetCollection(pb.GetCollectionRequest(collection=reader.collection)).collection
    assert pinned.embedding_digest.startswith("sha256:")


def test_the_same_bytes_again_make_no_version_and_no_vector(reader):
    ready = reader.add("guide.md", GUIDE)
    before = reader.statistics().vectors_computed
    again = reader.put("guide.md", GUIDE)
    assert not again.new_version
    assert again.document.state == pb.INGESTION_STATE_READY
    assert again.document.newest_version == ready.newest_version
    assert reader.statistics().vectors_computed == before


def test_a_repeated_request_id_puts_once_and_answers_the_same(reader):
    request_id = str(uuid.uuid4())
    first = reader.put("a.txt", "first", request_id=request_id)
    reader.settled("a.txt")
    assert reader.put("a.txt", "first", request_id=request_id) == first
    with refused("REQUEST_ID_REUSED"):
        reader.put("a.txt", "second", request_id=request_id)


def test_only_chunks_whose_text_changed_are_embedded(reader):
    first = reader.add("guide.md", GUIDE)
    second = reader.add("guide.md", GUIDE.replace("14 crowns", "15 crowns"))
    assert second.serving_version != first.serving_version
    assert (second.chunks_embedded, second.chunks_reused) == (1, first.chunks - 1)
    assert reader.statistics().vectors_computed == first.chunks + 1
    assert any("15 crowns" in hit.text for hit in reader.search("what does a mooring cost"))
    assert not any("14 crowns" in hit.text for hit in reader.search("what does a mooring cost", top_k=100))


def test_the_text_of_every_version_stays_for_citations(reader):
    first = reader.add("guide.md", GUIDE)
    reader.add("guide.md", GUIDE.replace("14 crowns", "15 crowns"))
    request = pb.ListDocumentVersionsRequest(collection=reader.collection, document="guide.md")
    newest, oldest = reader.api.ListDocumentVersions(request).versions
    assert (newest.state, oldest.state) == (pb.INGESTION_STATE_READY, pb.INGESTION_STATE_SUPERSEDED)
    assert oldest.version == first.serving_version
    assert oldest.source_sha256 == hashlib.sha256(GUIDE.encode()).hexdigest()
    assert reader.text("guide.md", oldest.version) == GUIDE


def test_an_old_text_put_again_serves_again(reader):
    first = reader.add("a.txt", "The gate is red.")
    reader.add("a.txt", "The gate is blue.")
    again = reader.add("a.txt", "The gate is red.")
    assert again.serving_version == first.serving_version
    assert [hit.text for hit in reader.search("gate")] == ["The gate is red."]
    request = pb.ListDocumentVersionsRequest(collection=reader.collection, document="a.txt")
    states = [version.state for version in reader.api.ListDocumentVersions(request).versions]
    assert states == [pb.INGESTION_STATE_READY, pb.INGESTION_STATE_SUPERSEDED]


def test_another_title_has_the_same_version_indexed_under_it(reader):
    first = reader.add("a.txt", "The gate is red.", title="Gates")
    reader.put("a.txt", "The gate is red.", title="Harbour")
    second = reader.settled("a.txt")
    assert (second.title, second.serving_version) == ("Harbour", first.serving_version)
    assert [hit.title for hit in reader.search("gate")] == ["Harbour"]


def test_other_metadata_count_at_once(reader):
    reader.add("a.txt", "The gate is red.", metadata={"shelf": "one"})
    assert reader.put("a.txt", "The gate is red.", metadata={"shelf": "two"}).document.state == pb.INGESTION_STATE_READY
    assert reader.search("gate", metadata_equals={"shelf": "one"}) == []
    assert len(reader.search("gate", metadata_equals={"shelf": "two"})) == 1


def test_characters_are_counted_in_code_points_of_the_normalised_text(reader):
    reader.add("a.txt", "\ufeffz\u0065\u0301ro 🐟\r\nend")
    assert reader.text("a.txt") == "zéro 🐟\nend"
    assert reader.text("a.txt", start=1, end=6) == "éro 🐟"
    request = pb.GetDocumentTextRequest(collection=reader.collection, document="a.txt", start=3, end=99)
    with refused("SPAN_OUT_OF_RANGE") as failures:
        reader.api.GetDocumentText(request)
    assert failures[0].variables["characters"] == "10"


def test_an_unknown_version_is_refused(reader):
    reader.add("a.txt", "text")
    with refused("DOCUMENT_VERSION_NOT_FOUND"):
        reader.text("a.txt", version="0" * 64)


@pytest.mark.parametrize(
    ("name", "content", "media_type", "reason", "says"),
    [
        ("a.bin", b"\x89PNG\r\n\x1a\n\x00\x00", "", "DOCUMENT_NOT_TEXT", "PNG"),
        ("a.txt", b"abc\x00def", "", "DOCUMENT_NOT_TEXT", "NUL"),
        ("a.txt", "Müller kaufte für fünf Äpfel".encode("latin-1"), "", "DOCUMENT_NOT_TEXT", "UTF-8"),
        ("a.txt", b"%PDF-1.7 ...", "", "DOCUMENT_NOT_TEXT", "PDF"),
        ("a.pptm", b"text", "", "DOCUMENT_NOT_TEXT", "macros"),
        ("a.doc", b"text", "application/msword", "DOCUMENT_NOT_TEXT", "application/msword"),
        ("a.txt", b"", "", "DOCUMENT_EMPTY", "a.txt"),
        ("a.txt", b" \n\t\n", "", "DOCUMENT_EMPTY", "a.txt"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(reader, name, content, media_type, reason, says):
    with refused(reason) as failures:
        reader.put(name, content, media_type=media_type)
    assert says in failures[0].message
    assert reader.statistics().documents == 0


def test_a_document_of_another_format_is_converted_in_the_background(reader):
    content = pdf("A mooring costs fourteen crowns. " * 20, "The gate is closed in a storm. " * 20)
    stored = reader.put("rules", content, media_type="application/pdf")
    assert (stored.document.newest_version, stored.new_version) == ("", True)
    ready = reader.settled("rules")
    assert (ready.state, ready.media_type) == (pb.INGESTION_STATE_READY, "application/pdf")
    hit = reader.search("what does a mooring cost")[0]
    assert (hit.first_page, hit.last_page) == (1, 1)
    assert reader.text("rules", hit.version, hit.start, hit.end) == hit.text
    hit = reader.search("the gate in a storm")[0]
    assert (hit.first_page, hit.last_page) == (2, 2)
    request = pb.ListDocumentVersionsRequest(collection=reader.collection, document="rules")
    (version,) = reader.api.ListDocumentVersions(request).versions
    assert (version.pages, version.source_sha256) == (2, hashlib.sha256(content).hexdigest())
    again = reader.put("rules", content, media_type="application/pdf")
    assert (again.new_version, again.document.state) == (False, pb.INGESTION_STATE_READY)


def test_a_broken_file_fails_alone_with_its_reason_while_the_others_go_through(reader):
    reader.put("broken.pdf", b"%PDF-1.7 ...")
    reader.put("page.html", "<p>The gate is red.</p>")
    reader.settled()
    assert reader.get("page.html").state == pb.INGESTION_STATE_READY
    broken = reader.get("broken.pdf")
    assert (broken.state, broken.chunks) == (pb.INGESTION_STATE_FAILED, 0)
    assert not missing(broken.reason, "broken.pdf", "PDF", "save")


def test_a_document_over_the_limit_is_refused_before_it_is_sent(reader):
    with refused("DOCUMENT_TOO_LARGE") as failures:
        reader.upload("big.txt", b"x", size_bytes=10 * 1024 * 1024 + 1)
    assert failures[0].variables["limit_bytes"] == str(10 * 1024 * 1024)


def test_an_upload_is_a_put_of_its_bytes(reader):
    content = "".join(f"Line {number} of the log says nothing.\n\n" for number in range(300)).encode()
    stored = reader.upload("log.txt", content)
    assert stored.new_version
    assert reader.settled("log.txt").state == pb.INGESTION_STATE_READY
    assert reader.text("log.txt") == content.decode()
    assert not reader.upload("log.txt", content).new_version


def test_an_upload_with_another_digest_keeps_nothing(reader):
    with refused("DIGEST_MISMATCH"):
        reader.upload("a.txt", b"text", sha256="0" * 64)
    with refused("DOCUMENT_NOT_FOUND"):
        reader.get("a.txt")


def test_documents_are_listed_by_id_page_after_page(reader):
    for number in (3, 1, 2, 5, 4):
        reader.put(f"d{number}.txt", f"Document {number}.")

    def page(token):
        return reader.api.ListDocuments(
            pb.ListDocumentsRequest(collection=reader.collection, page_size=2, page_token=token)
        )

    assert [item.document for item in pages(page, "documents")] == [f"d{number}.txt" for number in range(1, 6)]


def test_a_deleted_document_is_in_no_list(reader):
    ready = reader.add("guide.md", GUIDE)
    reader.add("other.txt", "Herring is a fish.")
    assert reader.delete("guide.md") == ready.chunks
    assert {hit.document for hit in reader.search("herring with mustard", top_k=100)} == {"other.txt"}
    listed = reader.api.ListDocuments(pb.ListDocumentsRequest(collection=reader.collection)).documents
    assert [item.document for item in listed] == ["other.txt"]
    for call in (lambda: reader.get("guide.md"), lambda: reader.text("guide.md", ready.serving_version)):
        with refused("DOCUMENT_NOT_FOUND"):
            call()
    assert reader.statistics().chunks == 1


def test_a_watch_shows_each_document_as_it_is_and_ends_when_nothing_is_pending(reader):
    for number in range(5):
        reader.put(f"d{number}.txt", f"Document {number} about herring.")
    seen = list(reader.watch())
    assert {message.document.document for message in seen} == {f"d{number}.txt" for number in range(5)}
    last = {message.document.document: message.document.state for message in seen}
    assert set(last.values()) == {pb.INGESTION_STATE_READY}
    assert seen[-1].pending == 0
    with refused("DOCUMENT_NOT_FOUND"):
        list(reader.watch("never.txt"))


def test_the_name_of_a_file_says_what_it_is_where_the_id_does_not(reader):
    reader.put("file-1", "<h1>Tides</h1><p>Herring.</p>", filename="tides.html")
    found = reader.settled("file-1")
    assert (found.state, found.media_type) == (pb.INGESTION_STATE_READY, "text/html")
    with refused("DOCUMENT_NOT_TEXT") as failures:
        reader.put("file-2", b"x", filename="tides.docm")
    assert failures[0].variables["name"] == "tides.docm"
