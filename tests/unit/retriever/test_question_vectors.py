"""Questions that are written for chunks: once for a text, searched beside it, and gone with it."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select

from services.chassis.database import open_database
from services.retriever.catalog import Collections
from services.retriever.collection import Change
from services.retriever.documents.readers import SERVICE
from services.retriever.ingestion.embeddings import Vectors
from services.retriever.questions.sets import QuestionSet, QuestionSets, WithQuestions, finds_back
from services.retriever.questions.writing import QuestionWriting
from services.retriever.search.question import ExpansionKind, Fusion, Mode, Question
from services.retriever.search.settings import SearchSettings, Stated
from services.retriever.search.trials import Pair, Tuner
from services.retriever.store_generated import QuestionsRow, QuestionVectorsRow
from tests.harness.wording import missing
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.encoding import SECOND, TwoModels
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.test_expansion import searching
from tests.unit.retriever.test_leaves_nothing import holding
from tests.unit.retriever.test_reembedding import changing, ended
from tests.unit.retriever.writing import Scribe

EACH = 2
TEXTS = {f"{number}.txt": f"Barrel {number} holds herring." for number in range(5)}


class Asking(HashedEmbeddings):
    """Vectors of chance, but a question ``Q… of TEXT`` is half its text's; counts the questions that it embeds."""

    def __init__(self):
        super().__init__()
        self.questions = []

    async def queries(self, texts, *, no_store=False):
        self.questions += texts
        return await super().queries(texts)

    def _vectors(self, texts):
        about = super()._vectors([text.partition(" of ")[2] or text for text in texts]).packed
        own = super()._vectors(texts).packed
        mixed = [
            np.frombuffer(one, "<f2").astype("f4") + np.frombuffer(it, "<f2")
            for one, it in zip(about, own, strict=True)
        ]
        return Vectors(self.digest, tuple((it / np.linalg.norm(it)).astype("<f2").tobytes() for it in mixed))


def questions_of(asked):
    passage = asked.partition("\n\n")[2]
    return "\n".join(f"{number}. Q{number} of {passage}" for number in range(1, EACH + 1))


@pytest.fixture
def embeddings():
    return Asking()


class Desk:
    """A house with a worker that writes questions, and the search over them."""

    def __init__(self, house, scribe):
        self.house, self.scribe = house, scribe
        gates = house.ingestion.tools.gates
        self.sets = QuestionSets(house.database, gates, 1 << 20)
        self.writing = QuestionWriting(
            house.database, scribe, house.embeddings, house.ingestion.tools.acting_for, self.sets.changed, 0.05
        )
        self.collections = Collections(house.database, lambda: 0.0, scribe)
        self.collections.updated = self.writing.wake

    async def want(self, each):
        return await self.collections.update("ada", "rules", Change(settings=SearchSettings(questions_per_chunk=each)))

    async def progress(self):
        return (await self.collections.get("ada", "rules")).questions

    async def until(self, met):
        async with asyncio.timeout(60):
            while not met(found := await self.progress()):  # noqa: ASYNC110  # the catalog tells nobody
                await asyncio.sleep(0.01)
        return found

    async def written(self):
        return await self.until(lambda it: it.done == it.chunks)

    async def set_now(self):
        number = await self.house.collections.number("ada", "rules")
        async with self.house.ingestion.tools.gates.search([number]):
            return await asyncio.to_thread(self.sets.of, number, EACH)

    def searching(self):
        plain = searching(self.house, self.scribe)
        return replace(plain, looking=replace(plain.looking, questions=self.sets))

    async def search(self, query, **stated):
        asked = Question(("rules",), (query,), 10, Mode.DENSE, Fusion.SCORE, 0.55, {}, (), SERVICE)
        return await self.searching().search("ada", asked, Stated(Mode.DENSE, **stated))


@asynccontextmanager
async def desk(folder, embeddings, scribe, catalog_url=""):
    async with opened(folder, embeddings, catalog_url=catalog_url) as house:
        made = Desk(house, scribe)
        running = asyncio.create_task(made.writing.run())
        try:
            yield made
        finally:
            running.cancel()
            (ended,) = await asyncio.gather(running, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError), ended


@pytest.fixture
async def filled(tmp_path, embeddings, catalog_url):
    async with desk(tmp_path, embeddings, Scribe(questions_of), catalog_url) as made:
        await made.house.create()
        for name, text in TEXTS.items():
            await made.house.ingested(name, text)
        yield made


def rows_of(found: QuestionSet):
    return [
        sorted(
            (int(chunk), row.tobytes())
            for block in it.blocks
            for chunk, row in zip(block.chunks, block.rows, strict=True)
        )
        for it in found.places
    ]


async def test_questions_are_written_once_for_a_text_whatever_becomes_of_its_documents(filled):
    house, scribe = filled.house, filled.scribe
    await filled.want(EACH)
    assert (await filled.written()).chunks == len(TEXTS)
    assert len(scribe.asked) == len(TEXTS)
    assert len(house.embeddings.questions) == EACH * len(TEXTS)
    # A rename, a copy, an edit and back, and a re-add.
    await house.put("new.txt", TEXTS["0.txt"])
    await house.removal.document("ada", "rules", "0.txt")
    await house.settled("new.txt")
    await house.ingested("copy.txt", TEXTS["1.txt"])
    await house.ingested("2.txt", "Other words.")
    await house.ingested("2.txt", TEXTS["2.txt"])
    await filled.written()
    written = {asked.partition("\n\n")[2] for asked in scribe.asked}
    assert written <= {*TEXTS.values(), "Other words."}
    assert len(scribe.asked) == len(written)
    assert len(set(house.embeddings.questions)) == len(house.embeddings.questions)
    # More of them are written anew; fewer are the first of those.
    await filled.want(EACH + 1)
    await filled.until(lambda it: len(scribe.asked) == 2 * len(TEXTS) + len(written - set(TEXTS.values())))
    await filled.written()
    asked = len(scribe.asked)
    await filled.want(1)
    await filled.written()
    assert len(scribe.asked) == asked


async def test_a_chunk_is_as_near_as_its_nearest_question_and_as_its_text_where_that_is_off(filled):
    wanted = await filled.want(EACH)
    await filled.written()
    query = f"Q2 of {TEXTS['3.txt']}"
    found = await filled.search(query)
    # What is found is another thing than before they were there.
    assert found.versions["rules"] not in ("", wanted.version)
    assert [(it.kind, it.applied) for it in found.expansions] == [(ExpansionKind.QUESTION_VECTORS, True)]
    assert found.hits[0].passage.document == "3.txt"
    assert found.hits[0].ranked.dense == pytest.approx(1.0, abs=0.01)
    off = await filled.search(query, question_vectors=False)
    assert off.expansions == ()
    by_text = {hit.passage.document: hit.ranked.dense for hit in off.hits}
    assert by_text["3.txt"] < 0.95
    assert all(hit.ranked.dense >= by_text[hit.passage.document] - 1e-6 for hit in found.hits)
    # Also where keywords found it first and only its cosine is asked for.
    number = await filled.house.collections.number("ada", "rules")
    both = WithQuestions(filled.house.index, {number: await filled.set_now()})
    vector = np.frombuffer((await filled.house.embeddings.queries([query])).packed[0], "<f2").astype(np.float32)
    chunk = found.hits[0].passage.chunk
    assert both.similarities(number, vector, [chunk]) == {chunk: pytest.approx(1.0, abs=0.01)}
    assert list(both.nearest(number, vector, 1, None)) == [chunk]
    assert chunk not in both.nearest(number, vector, 9, filled.house.index.members(number) - {chunk})


async def test_tuning_judges_question_vectors_once_all_are_there_and_leaves_them_until_then(filled):
    pairs = [Pair(f"Q{each} of {text}", frozenset([name])) for name, text in TEXTS.items() for each in (1, 2)]
    tuner = Tuner(filled.searching(), filled.collections, filled.house.documents, 0.55)

    async def verdict():
        return [step async for step in tuner.tune("ada", "rules", pairs, SERVICE, apply=True)][-1]

    filled.scribe.go_away()
    await filled.want(EACH)
    early = await verdict()
    notes = {trial.name: trial.note for trial in early.trials}
    assert not missing(notes["question vectors"], f"0 of {len(TEXTS)} chunks")
    assert early.settings.questions_per_chunk == EACH
    filled.scribe.problem = None
    await filled.written()
    late = {trial.name: trial for trial in (await verdict()).trials}
    assert late["question vectors"].note == ""
    assert late["question vectors"].ndcg >= late["vectors alone"].ndcg


def test_a_question_counts_only_if_it_finds_its_way_back():
    texts = np.eye(3, dtype=np.float32)
    assert finds_back(np.array([0.9, 0.1, 0.0], dtype=np.float32), 0, texts)
    assert not finds_back(np.array([0.9, 0.1, 0.0], dtype=np.float32), 1, texts)
    assert not finds_back(np.array([0.1, 0.05, 0.0], dtype=np.float32), 0, texts)


async def test_a_set_that_grew_step_by_step_equals_a_fresh_one(filled, tmp_path, embeddings):
    await filled.want(EACH)
    await filled.set_now()
    long = "\n\n".join(f"## Part {part}\n\nThe words of part {part}. " + "More of them. " * 20 for part in range(4))
    house = filled.house
    for step in (
        house.ingested("long.md", f"# Long\n\n{long}"),
        house.removal.document("ada", "rules", "1.txt"),
        house.ingested("long.md", f"# Long\n\n{long.replace('part 2', 'another part')}"),
        house.ingested("0.txt", "Changed."),
    ):
        await step
        await filled.set_now()
        await filled.written()
        await filled.set_now()
    grown = rows_of(await filled.set_now())
    assert sum(map(len, grown)) >= 2 * EACH
    fresh = QuestionSets(house.database, house.ingestion.tools.gates, 1 << 20)
    number = await house.collections.number("ada", "rules")
    assert rows_of(await asyncio.to_thread(fresh.of, number, EACH)) == grown
    (tmp_path / "fresh").mkdir()
    async with desk(tmp_path / "fresh", embeddings, Scribe(questions_of)) as other:
        await other.house.create()
        for name in ("2.txt", "3.txt", "4.txt"):
            await other.house.ingested(name, TEXTS[name])
        await other.house.ingested("0.txt", "Changed.")
        await other.house.ingested("long.md", f"# Long\n\n{long.replace('part 2', 'another part')}")
        await other.want(EACH)
        await other.written()
        assert rows_of(await other.set_now()) == grown


@pytest.mark.parametrize("way", ["document", "collection"])
async def test_a_word_of_a_deleted_document_is_in_no_question(tmp_path, embeddings, way):
    canary = "zzyzxcanary"
    async with desk(tmp_path, embeddings, Scribe(questions_of)) as made:
        await made.house.create()
        await made.want(EACH)
        await made.house.ingested("kept.txt", "Words that stay.")
        await made.house.ingested("gone.txt", f"The {canary} sings.")
        await made.written()
        catalog = tmp_path / "catalog.db"
        assert "chunk_questions" in {table for table, _ in holding(catalog, canary)}
        if way == "document":
            await made.house.removal.document("ada", "rules", "gone.txt")
            assert {chunk for place in rows_of(await made.set_now()) for chunk, _ in place} <= made.house.index.members(
                await made.house.collections.number("ada", "rules")
            )
        else:
            await made.house.removal.collection("ada", "rules")
        assert holding(catalog, canary) == set()
        kept = await made.house.database.read(lambda session: len(session.scalars(select(QuestionsRow)).all()))
        vectors = await made.house.database.read(lambda session: len(session.scalars(select(QuestionVectorsRow)).all()))
        assert kept == vectors == (1 if way == "document" else 0)


async def test_searches_go_on_while_the_generator_is_away_and_the_collection_says_why(filled):
    filled.scribe.go_away()
    await filled.want(EACH)
    waiting = await filled.until(lambda it: bool(it.reason))
    assert (waiting.done, "generator" in waiting.reason) == (0, True)
    found = await filled.search("Barrel 1 holds herring.")
    assert found.hits
    assert [(it.applied, "written" in it.reason) for it in found.expansions] == [(False, True)]
    filled.scribe.problem = None
    assert (await filled.written()).reason == ""
    asked = await filled.house.database.read(lambda session: session.scalars(select(QuestionsRow.questions_json)).all())
    assert all(len(json.loads(it)) == EACH for it in asked)


class AskingTwo(HashedEmbeddings, TwoModels):
    """Two models of vectors of chance."""

    def __init__(self):
        HashedEmbeddings.__init__(self)
        self.by_second, self.asked_of, self.four = [], [], asyncio.Event()


async def test_a_collection_that_changes_its_model_has_its_questions_embedded_again_and_none_written(tmp_path):
    async with desk(tmp_path, AskingTwo(), Scribe(questions_of)) as made:
        await made.house.create()
        for name, text in TEXTS.items():
            await made.house.ingested(name, text)
        await made.want(EACH)
        await made.written()
        async with changing(made.house) as reembedding:
            await reembedding.start("ada", "rules", "second")
            assert (await ended(made.house)).embedding_digest == SECOND
        await made.written()
        assert len(made.scribe.asked) == len(TEXTS)
        models = await made.house.database.read(
            lambda session: session.scalars(select(QuestionVectorsRow.model_digest)).all()
        )
        assert models == [SECOND] * len(TEXTS)
        assert {row.shape[0] for it in (await made.set_now()).places for block in it.blocks for row in block.rows} <= {
            16
        }


async def test_after_a_kill_writing_goes_on_where_it_was(tmp_path):
    scribe = Scribe(questions_of)
    async with desk(tmp_path, Asking(), scribe) as made:
        await made.house.create()
        for name, text in TEXTS.items():
            await made.house.ingested(name, text)
        # Of five texts one is written; the worker ends while the others wait.
        scribe.most = 1
        await made.want(EACH)
        await made.until(lambda it: bool(it.reason))
    written = await kept(tmp_path)
    assert len(written) == 1
    again = Scribe(questions_of)
    async with desk(tmp_path, Asking(), again) as made:
        await made.written()
    assert len(again.asked) == len(TEXTS) - len(written)


async def kept(folder):
    async with open_database(f"sqlite:///{folder / 'catalog.db'}", "services.retriever.migrations") as database:
        return await database.read(lambda session: session.scalars(select(QuestionsRow.text_digest)).all())
