import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.retriever.ingestion import parsing
from services.retriever.store import ChunkRow, SourcePartRow, VersionRow
from tests.harness.wording import missing
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.formats.building import pdf, plain_word
from tests.unit.retriever.test_ingestion import picture, rows

PAGE = "<h1>Rules</h1><p>A single crossing costs six crowns.</p><h2>Dogs</h2><p>A dog crosses free.</p>"
BROKEN = b"%PDF-1.7 and nothing else"


async def held(house):
    return len(await rows(house, SourcePartRow.part))


@pytest.fixture
def conversions(monkeypatch):
    """How often the child was asked to convert."""
    asked = []
    convert = parsing.ChildParser.convert

    async def counted(self, name, raw):
        asked.append(name)
        return await convert(self, name, raw)

    monkeypatch.setattr(parsing.ChildParser, "convert", counted)
    return asked


async def test_a_page_becomes_a_version_whose_chunks_resolve_to_the_character(house):
    stored = await house.put("rules.html", PAGE)
    assert (stored.document.state, stored.document.newest_version, stored.new_version) == ("pending", "", True)
    document = await house.settled("rules.html")
    assert (document.state, document.title, document.chunks) == ("ready", "Rules", 2)
    assert await held(house) == 0
    for start, end, text in await rows(house, ChunkRow.start, ChunkRow.end, ChunkRow.text):
        assert (await house.documents.text("ada", "rules", "rules.html", "", start, end)).text == text


async def test_what_waits_to_be_converted_survives_the_end_of_the_process(tmp_path, embeddings, catalog_url):
    big = "<p>" + "words and " * 200_000 + "</p>"
    async with opened(tmp_path, embeddings, catalog_url=catalog_url, workers=0) as house:
        await house.create()
        await house.put("big.html", big)
        assert await held(house) == 2
    async with opened(tmp_path, embeddings, catalog_url=catalog_url) as house:
        assert (await house.settled("big.html")).state == "ready"
        assert await held(house) == 0


async def test_the_text_of_a_document_that_waits_is_said_to_be_none_yet(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=0) as house:
        await house.create()
        await house.put("rules.html", PAGE)
        with pytest.raises(Failure) as failed:
            await house.documents.text("ada", "rules", "rules.html", "", 0, 0)
        assert failed.value.reason is Reason.DOCUMENT_VERSION_NOT_FOUND
        assert failed.value.variables["document"] == "rules.html"


async def test_a_file_that_cannot_be_read_fails_with_its_reason_and_can_be_put_again(house):
    failed = await house.ingested("rules.pdf", BROKEN)
    assert (failed.state, failed.newest_version) == ("failed", "")
    assert not missing(failed.reason, "rules.pdf", "PDF")
    assert await held(house) == 0
    again = await house.put("rules.pdf", BROKEN)
    assert (again.document.state, again.new_version) == ("pending", False)
    await house.settled("rules.pdf")
    assert (await house.ingested("rules.pdf", pdf("Rules of the ferry."))).state == "ready"


async def test_the_former_version_stays_searchable_when_the_new_bytes_cannot_be_read(house):
    first = await house.ingested("rules.pdf", pdf("A single crossing costs six crowns."))
    before = await picture(house)
    failed = await house.ingested("rules.pdf", BROKEN)
    assert (failed.state, failed.serving_version) == ("failed", first.serving_version)
    assert await picture(house) == before
    assert [it.state for it in await house.documents.versions("ada", "rules", "rules.pdf", None, 9)] == ["ready"]


async def test_the_same_bytes_and_another_title_are_not_converted_again(house, conversions):
    await house.ingested("rules.html", PAGE)
    again = await house.put("rules.html", PAGE)
    assert (again.new_version, again.document.state) == (False, "ready")
    await house.put("rules.html", PAGE, title="House rules")
    document = await house.settled("rules.html")
    assert (document.title, document.state) == ("House rules", "ready")
    contexts = await rows(house, ChunkRow.context)
    assert all(context.startswith("House rules › Rules") for (context,) in contexts)
    assert conversions == ["rules.html"]


async def test_other_bytes_of_the_same_text_are_the_same_version(house):
    first = await house.ingested("rules.html", PAGE)
    house.embeddings.embedded.clear()
    second = await house.ingested("rules.html", PAGE.replace("<p>", "<p >"))
    assert second.serving_version == first.serving_version
    assert second.state == "ready"
    assert house.embeddings.embedded == []
    assert len(await rows(house, VersionRow.version)) == 1


async def test_pages_of_a_pdf_are_those_of_its_chunks(house):
    first, third = "A crossing costs six crowns. " * 20, "A dog crosses free of charge. " * 20
    await house.ingested("rules.pdf", pdf(first, "", third))
    pages = await rows(house, ChunkRow.text, ChunkRow.first_page, ChunkRow.last_page)
    assert sorted(pages) == [(first.strip(), 1, 1), (third.strip(), 3, 3)]
    (version,) = await house.documents.versions("ada", "rules", "rules.pdf", None, 9)
    assert version.pages == 3


async def test_text_put_while_bytes_wait_takes_their_place(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=0) as house:
        await house.create()
        await house.put("rules", "# Rules\n\nfirst")
        await house.put("rules", b"%PDF-1.7 and nothing else")
        waiting = await house.documents.get("ada", "rules", "rules")
        await house.put("rules", "# Rules\n\nfirst")
        assert await held(house) == 0
    async with opened(tmp_path, embeddings) as house:
        document = await house.settled("rules")
        assert (document.state, document.serving_version) == ("ready", waiting.newest_version)


async def test_bytes_of_a_deleted_document_are_gone(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=0) as house:
        await house.create()
        await house.put("rules.html", PAGE)
        await house.removal.document("ada", "rules", "rules.html")
        assert await held(house) == 0


async def test_a_document_deleted_while_it_is_converted_stops_its_conversion(house, monkeypatch):
    begun, stopped = asyncio.Event(), asyncio.Event()

    async def endless(self, name, raw):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    monkeypatch.setattr(parsing.ChildParser, "convert", endless)
    await house.put("rules.docx", plain_word("words"))
    await asyncio.wait_for(begun.wait(), 30)
    await house.removal.document("ada", "rules", "rules.docx")
    await asyncio.wait_for(stopped.wait(), 30)
    assert (await house.ingested("next.md", "# Next")).state == "ready"


async def test_bytes_of_another_tenant_are_another_document(house):
    await house.create(tenant="bob")
    await house.ingested("rules.html", PAGE)
    await house.ingested("rules.html", PAGE, tenant="bob")
    await house.removal.document("ada", "rules", "rules.html")
    assert (await house.documents.get("bob", "rules", "rules.html")).state == "ready"
    with pytest.raises(Failure) as failed:
        await house.documents.get("ada", "rules", "rules.html")
    assert failed.value.reason is Reason.DOCUMENT_NOT_FOUND
