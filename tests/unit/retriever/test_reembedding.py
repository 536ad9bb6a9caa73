"""Another embedding model: made beside the old one, changed over at once, never mixed, and left alone when it fails."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from sqlalchemy import select

from services.chassis.errors import Failure, Reason
from services.retriever.collection import Change
from services.retriever.documents.readers import SERVICE
from services.retriever.generation import NoGenerator
from services.retriever.index.building import Builder
from services.retriever.reembedding.reembedding import Reembedding
from services.retriever.search.expansion import Expander
from services.retriever.search.looking import Looking
from services.retriever.search.pages import Pages
from services.retriever.search.question import Fusion, Mode, Question
from services.retriever.search.reranking import Reranker
from services.retriever.search.search import Search
from services.retriever.store import ChunkRow, CollectionRow, DocumentRow, NewChunkRow, VectorRow
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.encoding import SECOND, SECOND_DIMENSIONS, TwoModels

LONG = "# Ferries\n\n" + " ".join(f"Crossing number {n} costs {n * 3} crowns on a calm day." for n in range(40))
DOCUMENTS = {"a.md": LONG, "b.md": "# Herring\n\nHerring is served with mustard.", "c.txt": "The gate is red."}


@pytest.fixture
def embeddings(encoder):
    return TwoModels(*encoder)


@asynccontextmanager
async def changing(house, *, running=True):
    """The worker over a house; cancelled at the end as a kill would."""
    made = Reembedding(
        house.database, house.ingestion.tools, house.ingestion, Builder(house.index, asyncio.to_thread), lambda: 1.0
    )
    task = asyncio.create_task(made.run()) if running else None
    yield made
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def filled(house):
    for document, content in DOCUMENTS.items():
        await house.ingested(document, content)
    return house


async def ended(house, digest=SECOND):
    number = await house.collections.number("ada", "rules")
    while True:
        changed = house.changes.next(number)
        found = await house.collections.get("ada", "rules")
        if found.change is None or not found.change.running:
            return found
        await asyncio.wait_for(changed.wait(), 30)


async def rows(house, *columns):
    return sorted((await house.database.read(lambda session: session.execute(select(*columns)).all())), key=repr)


async def state(house):
    """All that is searchable: chunks, vectors, and what the index holds."""
    number = await house.collections.number("ada", "rules")
    chunks = await rows(house, ChunkRow.chunk, ChunkRow.start, ChunkRow.end, ChunkRow.text, ChunkRow.context)
    vectors = await rows(house, VectorRow.model_digest, VectorRow.text_digest, VectorRow.vector)
    return chunks, vectors, house.index.digest(number), await rows(house, DocumentRow.document, DocumentRow.chunks)


def question(query):
    return Question(("rules",), (query,), 10, Mode.DENSE, Fusion.SCORE, 0.55, {}, (), SERVICE)


async def searched(house, query="mustard"):
    search = Search(
        database=house.database,
        embeddings=house.embeddings,
        gates=house.ingestion.tools.gates,
        looking=Looking(house.database, house.index, asyncio.to_thread, 100),
        pages=Pages(b"k" * 32, lambda: 0.0, 60),
        reranker=Reranker(house.embeddings, 0.0, 1.0),
        expander=Expander(NoGenerator(), house.embeddings, 1.0),
    )
    return await search.search("ada", question(query))


async def test_a_collection_changes_over_to_the_state_of_a_fresh_build_under_the_new_model(
    filled, tmp_path, embeddings
):
    before = await filled.collections.get("ada", "rules")
    async with changing(filled) as reembedding:
        started = await reembedding.start("ada", "rules", "second")
        assert (started.change.model, started.change.running, started.change.documents) == ("second", True, 3)
        assert (started.embedding_digest, started.version) == (before.embedding_digest, before.version)
        after = await ended(filled)
    assert (after.embedding_digest, after.change) == (SECOND, None)
    assert after.etag != before.etag
    assert after.version != before.version
    assert await rows(filled, NewChunkRow.chunk) == []
    assert {digest for (digest,) in await rows(filled, VectorRow.model_digest)} == {SECOND}
    number = await filled.collections.number("ada", "rules")
    asked = (await embeddings.of(SECOND).queries(["mustard"])).packed[0]
    assert len(filled.index.nearest(number, np.frombuffer(asked, "<f2").astype("f4"), 1000, None)) > len(DOCUMENTS)
    (tmp_path / "fresh").mkdir()
    async with opened(tmp_path / "fresh", embeddings) as fresh:
        await fresh.create()
        async with changing(fresh) as reembedding:
            # Without a document it has no model yet, and takes this one.
            assert (await reembedding.start("ada", "rules", SECOND)).embedding_digest == SECOND
        for document, content in DOCUMENTS.items():
            await fresh.ingested(document, content)
        assert await state(fresh) == await state(filled)


@pytest.mark.parametrize("stored", [None, 0.5, 0.3])
async def test_the_threshold_of_answers_goes_at_the_flip_and_not_before(filled, embeddings, stored):
    await filled.collections.update("ada", "rules", Change(answerable_threshold=stored))
    before = 0.5 if stored is None else stored
    embeddings.open.clear()
    async with changing(filled) as reembedding:
        started = await reembedding.start("ada", "rules", "second")
        assert (started.answerable_threshold, started.former_threshold) == (before, None)
        cancelled = await reembedding.cancel("ada", "rules")
        assert (cancelled.answerable_threshold, cancelled.former_threshold) == (before, None)
        embeddings.open.set()
        await reembedding.start("ada", "rules", "second")
        after = await ended(filled)
        assert after.embedding_digest == SECOND
        lost = before if before != 0.5 else None
        assert (after.answerable_threshold, after.former_threshold) == (0.5, lost)
        # Back to the first model it is told of still; only another threshold ends that.
        await reembedding.start("ada", "rules", "first")
        back = await ended(filled)
    assert (back.answerable_threshold, back.former_threshold) == (0.5, lost)
    again = await filled.collections.update("ada", "rules", Change(answerable_threshold=0.6))
    assert (again.answerable_threshold, again.former_threshold) == (0.6, None)


async def test_questions_are_asked_of_the_collections_model(filled, embeddings):
    await searched(filled)
    async with changing(filled) as reembedding:
        await reembedding.start("ada", "rules", "second")
        await ended(filled)
    found = await searched(filled)
    assert embeddings.asked_of == [embeddings.digest, SECOND]
    assert found.hits[0].passage.document == "b.md"


async def test_a_search_that_the_change_overtakes_is_asked_anew(filled, embeddings, monkeypatch):
    plain = Search._vectors
    async with changing(filled) as reembedding:

        async def overtaken(self, *given):
            vectors = await plain(self, *given)
            if embeddings.asked_of == [embeddings.digest]:
                await reembedding.start("ada", "rules", "second")
                await ended(filled)
            return vectors

        monkeypatch.setattr(Search, "_vectors", overtaken)
        found = await searched(filled)
    assert embeddings.asked_of == [embeddings.digest, SECOND]
    assert found.hits[0].passage.document == "b.md"


async def test_what_is_put_and_deleted_meanwhile_is_in_the_new_set(filled, embeddings):
    async with changing(filled) as reembedding:
        embeddings.open.clear()
        await reembedding.start("ada", "rules", "second")
        await asyncio.wait_for(embeddings.asked.wait(), 30)
        await filled.put("d.md", "# Lamps\n\nA lamp burns at night.")
        await filled.put("b.md", "# Herring\n\nHerring is served with bread.")
        await filled.removal.document("ada", "rules", "c.txt")
        embeddings.open.set()
        await filled.settled("d.md")
        await filled.settled("b.md")
        assert (await ended(filled)).embedding_digest == SECOND
    # Also what was embedded for the old model when the change came is there under the new one.
    for document in ("a.md", "b.md", "d.md"):
        assert (await filled.settled(document)).state == "ready"
    texts = [text for _, _, _, text, _ in (await state(filled))[0]]
    assert any("bread" in text for text in texts)
    assert any("lamp" in text for text in texts)
    assert not any("mustard" in text or "gate" in text for text in texts)
    assert {digest for (digest,) in await rows(filled, VectorRow.model_digest)} == {SECOND}
    assert len(await rows(filled, ChunkRow.chunk)) == len(await chunks_in_index(filled))


@pytest.mark.parametrize("edited", [False, True])
async def test_a_document_that_is_deleted_or_edited_meanwhile_is_embedded_no_further_and_leaves_no_vector(
    tmp_path, embeddings, edited
):
    herring = DOCUMENTS["b.md"]
    async with opened(tmp_path, embeddings, embed_texts=2) as house:
        await house.create()
        await house.ingested("a.md", LONG)
        await house.ingested("b.md", herring)
        async with changing(house) as reembedding:
            embeddings.asked.clear()
            embeddings.open.clear()
            await reembedding.start("ada", "rules", "second")
            await asyncio.wait_for(embeddings.asked.wait(), 30)
            if edited:
                # Its text has a vector already, so the edit does not wait for the embedder.
                await house.ingested("a.md", herring)
            else:
                await house.removal.document("ada", "rules", "a.md")
            embeddings.open.set()
            await ended(house)
        assert len(embeddings.by_second) == 3
        assert {*await rows(house, VectorRow.text_digest)} == {*await rows(house, ChunkRow.text_digest)}


async def chunks_in_index(house):
    return house.index.members(await house.collections.number("ada", "rules"))


async def test_after_a_kill_it_goes_on_and_embeds_nothing_twice(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, embed_texts=2) as house:
        await house.create()
        for document, content in DOCUMENTS.items():
            await house.ingested(document, content)
        async with changing(house) as reembedding:
            await reembedding.start("ada", "rules", "second")
            await asyncio.wait_for(embeddings.four.wait(), 30)
    assert len(embeddings.by_second) < 12
    async with opened(tmp_path, embeddings, embed_texts=2) as house:
        found = await house.collections.get("ada", "rules")
        assert (found.change.running, found.embedding_digest) == (True, embeddings.digest)
        async with changing(house):
            assert (await ended(house)).embedding_digest == SECOND
        # At most the batch that the kill cut short.
        assert len(embeddings.by_second) - len(set(embeddings.by_second)) <= 2
        assert await chunks_in_index(house) == {chunk for (chunk,) in await rows(house, ChunkRow.chunk)}


@pytest.mark.parametrize("way", ["cancel", "back", "fail"])
async def test_cancelled_or_failed_it_leaves_everything_as_it_was(filled, embeddings, way, monkeypatch):
    before = await state(filled)
    if way == "fail":

        async def refuse(*_):
            raise Failure(Reason.INDEX_NOT_VERIFIED, index="embedded", wanted=1, found=2)

        monkeypatch.setattr(Builder, "finish", refuse)
        async with changing(filled) as reembedding:
            await reembedding.start("ada", "rules", "second")
            found = await ended(filled)
            assert not found.change.running
            assert "other entries" in found.change.reason
            assert (await reembedding.cancel("ada", "rules")).change is None
    else:
        async with changing(filled) as reembedding:
            embeddings.open.clear()
            await reembedding.start("ada", "rules", "second")
            await asyncio.wait_for(embeddings.asked.wait(), 30)
            end = reembedding.cancel("ada", "rules") if way == "cancel" else reembedding.start("ada", "rules", "first")
            assert (await end).change is None
            embeddings.open.set()
    assert await state(filled) == before
    assert await rows(filled, NewChunkRow.chunk) == []


async def test_an_absent_embedder_is_waited_for_and_said(filled, embeddings):
    async with changing(filled) as reembedding:
        await reembedding.start("ada", "rules", "second")
        embeddings.absent = True
        number = await filled.collections.number("ada", "rules")
        while True:
            changed = filled.changes.next(number)
            found = await filled.collections.get("ada", "rules")
            if found.change is None or found.change.reason:
                break
            await asyncio.wait_for(changed.wait(), 30)
        assert found.change is None or "embedder" in found.change.reason
        embeddings.absent = False
        assert (await ended(filled)).embedding_digest == SECOND


async def test_a_model_that_nobody_serves_is_refused_with_those_that_there_are(filled):
    async with changing(filled, running=False) as reembedding:
        with pytest.raises(Failure) as caught:
            await reembedding.start("ada", "rules", "third")
    assert caught.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
    assert "second" in caught.value.sentence
    assert (await rows(filled, CollectionRow.index_builds)) == [(0,)]
    assert SECOND_DIMENSIONS < 384
