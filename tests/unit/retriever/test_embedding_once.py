"""Nothing is embedded twice: not by two workers, not under another name, not on the way back to an earlier version."""

import asyncio
from collections import Counter

import pytest
from sqlalchemy import select

from services.retriever.documents.readers import SERVICE
from services.retriever.store import ChunkRow, HoldRow, VectorRow
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings

PART = "Rule number {} is about boats of size {}."
LONG = "\n\n".join(f"## Part {n}\n\n{PART.format(n, n)}" for n in range(12))


@pytest.fixture
def embeddings():
    return HashedEmbeddings()


async def count(house, column):
    return len(await house.database.read(lambda session: session.execute(select(column)).all()))


async def test_documents_that_come_at_once_with_the_same_text_embed_it_once(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=4, embed_texts=3) as house:
        for collection in ("rules", "fares"):
            await house.create(collection)
        embeddings.open.clear()
        names = [(collection, f"{n}.md") for collection in ("rules", "fares") for n in range(2)]
        for collection, name in names:
            await house.put(name, LONG, collection=collection)
        await asyncio.wait_for(embeddings.asked.wait(), 30)
        embeddings.open.set()
        for collection, name in names:
            found = await house.settled(name, collection=collection)
            assert (found.state, found.chunks) == ("ready", 12)
        assert set(Counter(embeddings.embedded).values()) == {1}
        assert await count(house, VectorRow.tenant) == 12


async def test_what_another_worker_fails_to_bring_is_embedded_by_who_waited(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=2) as house:
        await house.create()
        embeddings.open.clear()
        await house.put("a.md", LONG)
        await asyncio.wait_for(embeddings.asked.wait(), 30)
        await house.put("b.md", LONG)
        embeddings.absent = True
        embeddings.open.set()
        number = await house.collections.number("ada", "rules")
        while "document_waits" not in {event for event, _ in house.reports}:
            await asyncio.wait_for(house.changes.next(number).wait(), 30)
        embeddings.absent = False
        for name in ("a.md", "b.md"):
            assert (await house.settled(name)).state == "ready"
        assert set(Counter(embeddings.embedded).values()) == {1}


async def test_a_document_without_a_title_under_another_name_embeds_nothing(house):
    await house.ingested("first name.txt", "plain words " * 400)
    house.embeddings.embedded.clear()
    document = await house.ingested("second name.txt", "plain words " * 400)
    assert document.title == "second name.txt"
    assert document.chunks_embedded == 0
    assert not house.embeddings.embedded


async def test_a_document_that_is_renamed_while_its_new_name_waits_embeds_nothing(house):
    await house.ingested("old.md", LONG)
    await house.ingested("other.md", "Other words.")
    house.embeddings.embedded.clear()
    house.embeddings.open.clear()
    house.embeddings.asked.clear()
    await house.put("blocker.md", "Words that wait.")
    await asyncio.wait_for(house.embeddings.asked.wait(), 30)
    await house.put("new.md", LONG)
    await house.removal.document("ada", "rules", "old.md")
    house.embeddings.open.set()
    assert (await house.settled("new.md")).chunks_reused == 12
    assert house.embeddings.embedded == ["Words that wait."]
    await house.removal.document("ada", "rules", "new.md")
    assert await count(house, VectorRow.tenant) == 2
    assert await count(house, HoldRow.tenant) == 0


async def test_a_job_whose_document_and_vectors_a_deletion_took_embeds_nothing(tmp_path):
    class Held(HashedEmbeddings):
        """Holds a job where it has its chunks and has not yet looked for their vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.counted, self.go_on = asyncio.Event(), asyncio.Event()
            self.go_on.set()

        async def count(self, texts):
            self.counted.set()
            await self.go_on.wait()
            return await super().count(texts)

    held = Held()
    async with opened(tmp_path, held) as house:
        await house.create()
        await house.ingested("old.md", LONG)
        held.embedded.clear()
        held.counted.clear()
        held.go_on.clear()
        await house.put("new.md", LONG)
        await asyncio.wait_for(held.counted.wait(), 30)
        for name in ("old.md", "new.md"):
            await house.removal.document("ada", "rules", name)
        held.go_on.set()
        await house.ingested("other.md", "Other words.")
        assert held.embedded == ["Other words."]


async def test_going_back_to_an_earlier_version_embeds_nothing_and_a_deletion_takes_the_vectors_of_all(house):
    await house.ingested("rules.md", LONG)
    await house.ingested("rules.md", LONG.replace("boats", "ships"))
    house.embeddings.embedded.clear()
    back = await house.ingested("rules.md", LONG)
    assert (back.chunks, back.chunks_embedded) == (12, 0)
    assert not house.embeddings.embedded
    await house.removal.document("ada", "rules", "rules.md")
    for column in (VectorRow.tenant, HoldRow.tenant, ChunkRow.tenant):
        assert await count(house, column) == 0


async def test_a_collection_that_is_deleted_takes_the_vectors_of_all_versions(house):
    await house.ingested("rules.md", LONG)
    await house.ingested("rules.md", LONG.replace("boats", "ships"))
    await house.removal.collection("ada", "rules")
    assert await count(house, VectorRow.tenant) == await count(house, HoldRow.tenant) == 0


async def test_an_edit_leaves_the_numbers_of_the_other_chunks_alone_and_the_index_hears_of_nothing_else(house):
    await house.ingested("rules.md", LONG)
    number = await house.collections.number("ada", "rules")
    before = house.index.members(number)
    await house.ingested("rules.md", "First comes a word.\n\n" + LONG.replace("size 5", "size 55"))
    after = house.index.members(number)
    assert (len(before - after), len(after - before)) == (1, 2)


async def test_a_chunk_that_a_document_holds_twice_is_two_chunks(house):
    document = await house.ingested("twice.md", "## Part\n\nThe same words.\n\n## Part\n\nThe same words.")
    assert (document.chunks, document.chunks_embedded, document.chunks_reused) == (2, 1, 1)
    assert len(house.index.members(await house.collections.number("ada", "rules"))) == 2


async def test_tenants_with_the_same_documents_share_no_chunk_number_and_no_counter(house):
    await house.create(tenant="ben")
    await house.ingested("rules.md", LONG)
    house.embeddings.embedded.clear()
    theirs = await house.ingested("rules.md", LONG, tenant="ben")
    assert (theirs.chunks_embedded, theirs.chunks_reused) == (12, 0)
    assert len(house.embeddings.embedded) == 12
    numbers = [await house.collections.number(tenant, "rules") for tenant in ("ada", "ben")]
    mine, others = (house.index.members(number) for number in numbers)
    assert not mine & others
    counted = [await house.collections.statistics(tenant, "rules", SERVICE) for tenant in ("ada", "ben")]
    assert counted[0] == counted[1]
    await house.removal.document("ada", "rules", "rules.md")
    assert house.index.members(numbers[1]) == others
    assert (await house.collections.statistics("ben", "rules", SERVICE)) == counted[1]
