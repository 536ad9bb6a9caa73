import asyncio
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from sqlalchemy import select

from services.chassis.errors import Failure, Reason
from services.retriever.ingestion.aside import Aside
from services.retriever.ingestion.queue import Queue
from services.retriever.store import ChunkRow, CollectionRow, VectorRow
from tests.harness.wording import missing
from tests.unit.retriever.conftest import opened

RULES = """# Rules

## Fares

A single crossing costs six crowns for an adult.

## Dogs

A dog crosses free if it sits on the floor.

## Fog

In fog the horn sounds twice a minute.
"""


async def rows(house, *columns, **equal):
    query = select(*columns)
    for name, value in equal.items():
        query = query.where(getattr(columns[0].class_, name) == value)
    return await house.database.read(lambda session: session.execute(query).all())


async def picture(house, tenant="ada", collection="rules"):
    """What the index answers, and what it holds: two equal pictures are two equal indexes."""
    number = await house.collections.number(tenant, collection)
    vector = (await house.embeddings.queries(["what does a crossing cost"])).packed[0]
    near = house.index.nearest(number, np.frombuffer(vector, "<f2").astype("f4"), 1000, None)
    words = house.index.keyword(number, ("crossing", "crowns", "dog", "fog", "the", "a"), 1000, None)
    return house.index.members(number), dict(near), dict(words)


async def test_a_document_becomes_searchable_chunks_with_exact_characters(house):
    document = await house.ingested("rules.md", RULES)
    assert (document.state, document.chunks, document.chunks_embedded, document.chunks_reused) == ("ready", 3, 3, 0)
    assert document.title == "Rules"
    for start, end, text in await rows(house, ChunkRow.start, ChunkRow.end, ChunkRow.text):
        excerpt = await house.documents.text("ada", "rules", "rules.md", "", start, end)
        assert excerpt.text == text == RULES[start:end]


async def test_only_changed_chunks_are_embedded(house):
    await house.ingested("rules.md", RULES)
    house.embeddings.embedded.clear()
    document = await house.ingested("rules.md", RULES.replace("six crowns", "seven crowns"))
    assert len(house.embeddings.embedded) == 1
    assert "seven crowns" in house.embeddings.embedded[0]
    assert (document.chunks, document.chunks_embedded, document.chunks_reused) == (3, 1, 2)


async def test_the_same_bytes_make_no_version_and_no_work(house):
    await house.ingested("rules.md", RULES)
    again = await house.put("rules.md", RULES)
    assert (again.new_version, again.document.state) == (False, "ready")
    assert len(await house.documents.versions("ada", "rules", "rules.md", None, 10)) == 1


async def test_another_title_is_indexed_again_without_a_new_version(house):
    await house.ingested("rules.md", RULES)
    stored = await house.put("rules.md", RULES, title="House rules")
    assert not stored.new_version
    assert (await house.settled("rules.md")).title == "House rules"
    contexts = await rows(house, ChunkRow.context)
    assert all(context.startswith("House rules › Rules") for (context,) in contexts)


async def test_other_metadata_count_at_once_without_work(house):
    await house.ingested("rules.md", RULES, metadata={"language": "en"})
    stored = await house.put("rules.md", RULES, metadata={"language": "nl"})
    assert stored.document.metadata == {"language": "nl"}
    assert stored.document.state == "ready"


async def test_the_old_version_stays_searchable_until_the_new_one_is_complete(house):
    first = await house.ingested("rules.md", RULES)
    before = await picture(house)
    house.embeddings.open.clear()
    house.embeddings.asked.clear()
    await house.put("rules.md", RULES.replace("six", "seven"))
    await asyncio.wait_for(house.embeddings.asked.wait(), 30)
    meanwhile = await house.documents.get("ada", "rules", "rules.md")
    assert (meanwhile.state, meanwhile.serving_version) == ("running", first.serving_version)
    assert meanwhile.newest_version != first.serving_version
    assert await picture(house) == before
    house.embeddings.open.set()
    done = await house.settled("rules.md")
    assert done.serving_version == meanwhile.newest_version
    states = {
        version.version: version.state
        for version in await house.documents.versions("ada", "rules", "rules.md", None, 9)
    }
    assert states == {first.serving_version: "superseded", done.serving_version: "ready"}


async def test_a_citation_of_an_old_version_still_resolves(house):
    first = await house.ingested("rules.md", RULES)
    at = RULES.index("six crowns")
    await house.ingested("rules.md", RULES.replace("six", "eleven"))
    assert (
        await house.documents.text("ada", "rules", "rules.md", first.serving_version, at, at + 10)
    ).text == "six crowns"


async def test_an_old_text_put_again_serves_again(house):
    first = await house.ingested("rules.md", RULES)
    await house.ingested("rules.md", "something else")
    back = await house.ingested("rules.md", RULES)
    assert back.serving_version == back.newest_version == first.serving_version
    assert [it.state for it in await house.documents.versions("ada", "rules", "rules.md", None, 9)] == [
        "ready",
        "superseded",
    ]


async def test_an_absent_embedder_makes_documents_wait_and_say_so(house):
    house.embeddings.absent = True
    stored = await house.put("rules.md", RULES)
    assert stored.document.state == "pending"
    number = await house.collections.number("ada", "rules")
    while True:
        changed = house.changes.next(number)
        document = await house.documents.get("ada", "rules", "rules.md")
        if document.reason:
            break
        await asyncio.wait_for(changed.wait(), 30)
    assert not missing(document.reason, "embedder")
    house.embeddings.absent = False
    assert (await house.settled("rules.md")).state == "ready"


async def test_a_newer_version_overtakes_one_that_is_being_embedded(house):
    house.embeddings.open.clear()
    await house.put("rules.md", RULES)
    await asyncio.wait_for(house.embeddings.asked.wait(), 30)
    newer = await house.put("rules.md", "newer words")
    house.embeddings.open.set()
    document = await house.settled("rules.md")
    assert document.serving_version == newer.document.newest_version
    assert document.chunks == 1
    # What was computed for the older one is kept with its text, and goes with the document.
    assert len(await rows(house, VectorRow.tenant)) == 4
    await house.removal.document("ada", "rules", "rules.md")
    assert not await rows(house, VectorRow.tenant)


async def test_a_document_deleted_while_it_is_embedded_leaves_nothing(house):
    house.embeddings.open.clear()
    await house.put("rules.md", RULES)
    await asyncio.wait_for(house.embeddings.asked.wait(), 30)
    await house.removal.document("ada", "rules", "rules.md")
    house.embeddings.open.set()
    await house.ingested("other.md", "other words")
    assert len(await rows(house, ChunkRow.chunk)) == 1
    assert len(await rows(house, VectorRow.tenant)) == 1


async def test_deletion_leaves_nothing_in_any_list(house):
    await house.ingested("rules.md", RULES)
    assert await house.removal.document("ada", "rules", "rules.md") == 3
    assert await picture(house) == (frozenset(), {}, {})
    assert not await rows(house, ChunkRow.chunk)
    assert not await rows(house, VectorRow.tenant)
    with pytest.raises(Failure) as failed:
        await house.documents.text("ada", "rules", "rules.md", "", 0, 0)
    assert failed.value.reason is Reason.DOCUMENT_NOT_FOUND


async def test_a_vector_that_two_documents_share_survives_the_deletion_of_one(house):
    await house.ingested("a.md", RULES, title="Same")
    b = await house.ingested("b.md", RULES, title="Same")
    assert (b.chunks_embedded, b.chunks_reused) == (0, 3)
    await house.removal.document("ada", "rules", "a.md")
    assert len(await rows(house, VectorRow.tenant)) == 3
    _, near, words = await picture(house)
    assert len(near) == len(words) == 3


async def test_tenants_share_no_vectors(house):
    await house.create(tenant="ben")
    await house.ingested("rules.md", RULES)
    document = await house.ingested("rules.md", RULES, tenant="ben")
    assert document.chunks_embedded == 3


async def waiting(house, *documents):
    """The documents, once all of them say why they wait."""
    number = await house.collections.number("ada", "rules")
    while True:
        changed = house.changes.next(number)
        found = [await house.documents.get("ada", "rules", document) for document in documents]
        if all(it.state == "pending" and it.reason for it in found):
            return found
        await asyncio.wait_for(changed.wait(), 30)


async def test_documents_whose_model_is_gone_wait_and_say_so_and_are_ready_once_it_is_back(house):
    first = await house.ingested("rules.md", RULES)
    known, house.embeddings.digest = house.embeddings.digest, "sha256:" + "0" * 64
    house.embeddings.embedded.clear()
    await house.put("rules.md", "new words")
    await house.put("more.md", "more words")
    old, new = await waiting(house, "rules.md", "more.md")
    assert old.reason == new.reason
    assert "model" in old.reason
    assert old.serving_version == first.serving_version
    # Nothing was computed that could not be used.
    assert house.embeddings.embedded == []
    house.embeddings.digest = known
    for name in ("rules.md", "more.md"):
        done = await house.settled(name)
        assert (done.state, done.reason) == ("ready", "")
    assert ("document_failed", "rules.md") not in house.reports


async def test_documents_whose_model_is_gone_hold_up_no_other_collection(house):
    await house.ingested("rules.md", RULES)
    house.embeddings.digest = "sha256:" + "0" * 64
    await house.put("rules.md", "new words")
    await waiting(house, "rules.md")
    await house.create("others")
    for n in range(3):
        assert (await house.ingested(f"{n}.md", f"words {n}", collection="others")).state == "ready"
    assert (await waiting(house, "rules.md"))[0].reason


async def test_documents_whose_model_is_gone_take_the_model_that_their_collection_goes_to(house):
    await house.ingested("rules.md", RULES)
    house.embeddings.digest = other = "sha256:" + "0" * 64
    await house.put("more.md", "more words")
    await waiting(house, "more.md")

    def changed(session):
        session.scalars(select(CollectionRow)).one().embedding_digest = other

    await house.database.write(changed)
    assert (await house.settled("more.md")).state == "ready"


def test_what_is_left_alone_is_tried_again_after_ever_longer_waits_until_it_is_served():
    timers, tries = [], []
    aside = Aside(0.7, lambda: tries.append(1), lambda *timer: timers.append(timer))
    for number in range(5):
        if number == 4:
            aside.served(7)
        aside.put(7)
        # Somebody else found the same.
        aside.put(7)
        assert (sorted(aside.collections), len(timers), len(tries)) == ([7], number + 1, number)
        _, back, collection = timers[-1]
        back(collection)
        assert (sorted(aside.collections), len(tries)) == ([], number + 1)
    assert [seconds for seconds, _, _ in timers] == [0.2, 0.4, 0.7, 0.7, 0.2]


async def test_a_model_that_changes_between_two_calls_makes_the_document_begin_again(house):
    known = house.embeddings.digest
    house.embeddings.open.clear()
    await house.put("rules.md", RULES)
    await asyncio.wait_for(house.embeddings.asked.wait(), 30)
    house.embeddings.digest = "sha256:" + "1" * 64
    house.embeddings.open.set()
    assert (await house.settled("rules.md")).state == "ready"
    assert await rows(house, CollectionRow.embedding_digest) == [(house.embeddings.digest,)]
    assert {digest for (digest,) in await rows(house, VectorRow.model_digest)} == {house.embeddings.digest}
    assert known != house.embeddings.digest


async def test_what_ran_when_the_process_died_goes_on_and_keeps_its_vectors(tmp_path, embeddings):
    text = "\n\n".join(f"## Part {n}\n\nRule number {n} is about boats of size {n}." for n in range(10))
    async with opened(tmp_path, embeddings, embed_texts=2) as house:
        await house.create()
        embeddings.open.clear()
        await house.put("long.md", text)
        await asyncio.wait_for(embeddings.asked.wait(), 30)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as left_behind:
        assert left_behind.execute("SELECT state FROM documents").fetchone() == ("running",)
    embeddings.open.set()
    async with opened(tmp_path, embeddings, embed_texts=2) as house:
        document = await house.settled("long.md")
        assert (document.state, document.chunks) == ("ready", 10)
        assert len(embeddings.embedded) == 10


@pytest.mark.parametrize("damage", ["missing", "garbage", "behind"])
async def test_the_index_is_what_the_catalog_says_after_any_damage(tmp_path, embeddings, damage):
    async with opened(tmp_path, embeddings) as house:
        await house.create()
        await house.ingested("rules.md", RULES)
        early = tmp_path / "early.db"
        with sqlite3.connect(tmp_path / "index.db") as source, sqlite3.connect(early) as copy:
            source.backup(copy)
        await house.ingested("rules.md", RULES.replace("six", "seven"))
        await house.ingested("more.md", "A dog and a crossing")
        whole = await picture(house)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"index.db{suffix}").unlink(missing_ok=True)
    if damage == "garbage":
        (tmp_path / "index.db").write_bytes(b"nothing of the kind" * 1000)
    elif damage == "behind":
        shutil.copy(early, tmp_path / "index.db")
    async with opened(tmp_path, embeddings) as house:
        assert await picture(house) == whole


async def test_an_index_that_grew_step_by_step_equals_a_fresh_one(tmp_path, embeddings):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with opened(tmp_path / "a", embeddings, workers=2) as grown, opened(tmp_path / "b", embeddings) as fresh:
        await grown.create()
        await fresh.create()
        for n in range(6):
            await grown.ingested(f"{n}.md", RULES.replace("six", str(n)))
        await grown.ingested("1.md", "The first became short. A crossing is free.")
        await grown.ingested("2.md", RULES + "\n\n## More\n\nA longer crossing costs nine crowns.")
        await grown.removal.document("ada", "rules", "3.md")
        await grown.ingested("1.md", RULES.replace("six", "1"))
        for n in (5, 4, 2, 1, 0):
            text = (
                RULES.replace("six", str(n))
                if n != 2
                else RULES + "\n\n## More\n\nA longer crossing costs nine crowns."
            )
            await fresh.ingested(f"{n}.md", text)
        assert await picture(grown) == await picture(fresh)


async def test_the_queue_takes_tenants_in_turn_and_the_oldest_of_each_first(tmp_path, embeddings):
    async with opened(tmp_path, embeddings, workers=0) as house:
        for tenant, count in (("ada", 3), ("ben", 1), ("eve", 2)):
            await house.create(tenant=tenant)
            for n in range(count):
                await house.put(f"{n}.md", f"words {n}", tenant=tenant)
        queue = Queue(house.database)
        jobs = [job async for job in claims(queue)]
    taken = [(job.tenant, job.document) for job in jobs]
    assert taken == [
        ("ada", "0.md"),
        ("ben", "0.md"),
        ("eve", "0.md"),
        ("ada", "1.md"),
        ("eve", "1.md"),
        ("ada", "2.md"),
    ]


async def claims(queue):
    while (job := await queue.claim()) is not None:
        yield job


async def test_a_repeated_request_has_one_effect(house):
    first = await house.put("rules.md", RULES, request_id="r1")
    await house.settled("rules.md")
    assert await house.put("rules.md", RULES, request_id="r1") == first
    with pytest.raises(Failure) as refused:
        await house.put("rules.md", RULES + "more", request_id="r1")
    assert refused.value.reason is Reason.REQUEST_ID_REUSED
