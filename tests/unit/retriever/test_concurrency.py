"""What several workers and callers do to one catalog at once, on both databases."""

import asyncio

from sqlalchemy import func, select

from services.chassis.errors import Failure, Reason
from services.retriever.ingestion.publishing import Publisher, text_digest
from services.retriever.ingestion.queue import Queue
from services.retriever.store import ChunkRow, VectorRow
from tests.harness.plugin_sampling import is_whole
from tests.unit.retriever.conftest import opened

WORKERS = 4
ROUNDS = 10 if is_whole() else 4


async def test_workers_on_one_queue_share_it_and_leave_nothing(tmp_path, embeddings, catalog_url):
    async with opened(tmp_path, embeddings, workers=0, catalog_url=catalog_url) as house:
        for tenant in ("ada", "ben"):
            await house.create(tenant=tenant)
        queues = [Queue(house.database) for _ in range(WORKERS)]
        for round_ in range(ROUNDS):
            names = {("ada", f"a{round_}"), ("ben", f"b{round_}")}
            for tenant, name in names:
                await house.put(name, f"words of {name}", tenant=tenant)
            claims = await asyncio.gather(*(queue.claim() for queue in queues))
            assert sorted((job.tenant, job.document) for job in claims if job) == sorted(names)


async def test_two_workers_may_compute_the_same_vector(tmp_path, embeddings, catalog_url):
    async with opened(tmp_path, embeddings, workers=0, catalog_url=catalog_url) as house:
        for collection in ("rules", "fares"):
            await house.create(collection)
            await house.put("same.md", "the same words", collection=collection)
        jobs = [job for _ in range(2) if (job := await Queue(house.database).claim())]
        assert len(jobs) == 2
        publisher = Publisher(house.database)
        for round_ in range(ROUNDS):
            vectors = {text_digest(f"{round_} {n}"): b"\0\0" for n in range(50)}
            assert all(await asyncio.gather(*(publisher.keep(job, "sha256:m", vectors) for job in jobs)))
        held = await house.database.read(lambda session: session.scalar(select(func.count()).select_from(VectorRow)))
        assert held == ROUNDS * 50


async def test_puts_that_race_ingestion_all_become_searchable(tmp_path, embeddings, catalog_url):
    async with opened(tmp_path, embeddings, workers=WORKERS, catalog_url=catalog_url) as house:
        for collection in ("rules", "fares"):
            await house.create(collection)

        async def keep_putting(collection, document):
            for round_ in range(ROUNDS):
                text = f"# Part {round_ % 3}\n\nshared words"
                await house.put(document, text, collection=collection)
                await house.put(document, text, collection=collection, title=f"title {round_}")

        documents = [(collection, f"{n}.md") for collection in ("rules", "fares") for n in range(4)]
        await asyncio.gather(*(keep_putting(*each) for each in documents))
        for collection, document in documents:
            found = await house.settled(document, collection=collection)
            assert (found.state, found.serving_version) == ("ready", found.newest_version)
        vectors = select(VectorRow.text_digest)
        bare = select(func.count()).select_from(ChunkRow).where(ChunkRow.text_digest.not_in(vectors))
        assert await house.database.read(lambda session: session.scalar(bare)) == 0


async def test_a_name_that_two_callers_create_at_once_is_the_first_ones(tmp_path, embeddings, catalog_url):
    async with opened(tmp_path, embeddings, workers=0, catalog_url=catalog_url) as house:
        for round_ in range(ROUNDS):
            answers = await asyncio.gather(*(house.create(f"c{round_}") for _ in range(2)), return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, Failure)]
            assert [failure.reason for failure in refused] == [Reason.COLLECTION_EXISTS]
