"""A summary tree that grew is that of a fresh build, costs what changed, and forgets what was deleted."""

import asyncio
import random
import re

import pytest
from sqlalchemy import select

from services.retriever.store import ChunkRow
from services.retriever.summaries import nodes
from services.retriever.summaries.nodes import Made, Maker
from services.retriever.summaries.statements import Mode, Quote, Statement
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.hashing import HashedEmbeddings
from tests.unit.retriever.summarising import Joiner, request, rows, summaries
from tests.unit.retriever.writing import Scribe

NOUNS = ("herring", "mustard", "gate", "lamp", "keeper", "bread", "siren", "boat", "quay", "barometer")
VERBS = ("guards", "warms", "follows", "hides", "measures", "sells", "paints", "repairs")


@pytest.fixture
def embeddings():
    return HashedEmbeddings()


def section(seed):
    drawn = random.Random(seed)
    lines = [
        f"The {drawn.choice(NOUNS)} {drawn.choice(VERBS)} {drawn.randrange(100)} {drawn.choice(NOUNS)}s at the quay."
        for _ in range(3)
    ]
    return f"## Part {seed}\n\n{' '.join(lines)}\n"


def text(*seeds):
    return "# Handbook\n\n" + "\n".join(map(section, seeds))


async def fill(house, documents):
    for name, seeds in documents.items():
        await house.put(name, text(*seeds))
    for name in documents:
        await house.settled(name)


def said(summary):
    return [(it.text, it.citations, it.generated) for it in summary.statements]


async def nodes_above(house, name):
    return {key for key, row in (await rows(house)).items() if name in row[-1]}


@pytest.mark.sampled(every=24)
@pytest.mark.parametrize("seed", range(60))
async def test_after_any_history_the_nodes_are_those_of_a_fresh_build(house, tmp_path, seed):
    drawn = random.Random(seed)
    held: dict[str, list[int]] = {}
    told = summaries(house)
    for step in range(8):
        for _ in range(drawn.randrange(1, 4)):
            name = f"d{drawn.randrange(7)}.md"
            if name in held and drawn.random() < 0.4:
                above = await nodes_above(house, name)
                await house.removal.document("ada", "rules", name)
                del held[name]
                assert not above & set(await rows(house))
            else:
                held[name] = [drawn.randrange(40) for _ in range(drawn.randrange(1, 14))]
                await house.ingested(name, text(*held[name]))
        if step % 2:
            before = set(await rows(house))
            summary = await told.summarize("ada", request())
            after = await rows(house)
            # It computed those nodes alone that were not there.
            assert summary.nodes_computed == len(set(after) - before)
            assert summary.nodes_computed + summary.nodes_reused == len(after)
    grown = await told.summarize("ada", request())
    folder = tmp_path / "fresh"
    folder.mkdir()
    async with opened(folder, HashedEmbeddings()) as fresh:
        await fresh.create()
        await fill(fresh, dict(sorted(held.items(), key=lambda it: drawn.random())))
        answer = await summaries(fresh).summarize("ada", request())
        assert await rows(fresh) == await rows(house)
    assert said(answer) == said(grown)
    assert answer.nodes_computed == len(await rows(house))


async def test_an_edit_computes_the_nodes_above_it_and_no_more(house):
    await fill(house, {f"d{at}.md": range(at * 30, at * 30 + 30) for at in range(4)})
    told = summaries(house)
    first = await told.summarize("ada", request())
    assert first.nodes_computed > 12
    # One sentence of one section, in a document of thirty.
    edited = text(*range(30, 60)).replace(section(45), section(45) + "\nThe granary burned down in the night.\n")
    await house.ingested("d1.md", edited)
    second = await told.summarize("ada", request())
    levels = {row[1] for row in (await rows(house)).values()}
    assert 0 < second.nodes_computed <= 3 * max(levels)
    assert second.chunks == first.chunks
    # What went is not kept either.
    assert len(await rows(house)) == second.nodes_computed + second.nodes_reused


async def test_citations_stay_exact_where_text_before_them_grew(house):
    await house.ingested("d.md", text(*range(20)))
    told = summaries(house)
    before = await told.summarize("ada", request())
    await house.ingested("d.md", text(999, *range(20)))
    after = await told.summarize("ada", request())
    assert after.nodes_reused > 0
    held = await house.documents.text("ada", "rules", "d.md", "", 0, 0)
    for summary in (before, after):
        assert all(it.citations for it in summary.statements)
    for statement in after.statements:
        for it in statement.citations:
            assert (it.version, held.text[it.start : it.end]) == (held.version, it.text)


async def test_who_is_cut_off_goes_on_where_they_were(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(4)})
    whole = Joiner()
    async with asyncio.timeout(120):
        scribe = Joiner()
        scribe.stops_after = 9
        cut_off = asyncio.create_task(summaries(house, scribe).summarize("ada", request(Mode.ABSTRACTIVE)))
        await scribe.stopped.wait()
        cut_off.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut_off
        kept = await rows(house)
        assert kept
        later = Joiner()
        rest = await summaries(house, later).summarize("ada", request(Mode.ABSTRACTIVE))
        assert rest.nodes_reused == len(kept)
        # Nothing that was written for a node that was kept is written again.
        assert kept.items() <= (await rows(house)).items()
        again = await summaries(house, whole).summarize("ada", request(Mode.ABSTRACTIVE))
    assert (whole.written, again.nodes_computed) == ([], 0)
    assert said(again) == said(rest)


async def test_two_who_ask_at_once_have_it_computed_once(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    scribe = Joiner()
    told = summaries(house, scribe)
    answers = await asyncio.gather(*(told.summarize("ada", request(Mode.ABSTRACTIVE)) for _ in range(3)))
    assert sorted(answer.nodes_computed > 0 for answer in answers) == [False, False, True]
    assert len({answer.statements for answer in answers}) == 1


async def test_the_generator_words_what_is_cited_and_nothing_else(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    scribe = Joiner()
    summary = await summaries(house, scribe).summarize("ada", request(Mode.ABSTRACTIVE))
    worded = [it for it in summary.statements if it.generated]
    assert worded
    assert summary.generator_digest == scribe.digest
    for it in worded:
        assert it.text in scribe.written
        assert len(it.citations) > 1
    # A number that no source has: the sentence itself stands, as it is written.
    scribe.digest, scribe.adds = "sha256:other", " for 123456 crowns"
    honest = await summaries(house, scribe).summarize("ada", request(Mode.ABSTRACTIVE))
    assert honest.nodes_reused == 0
    assert not [it for it in honest.statements if it.generated]
    assert all(it.text == it.citations[0].text for it in honest.statements)
    # Nodes of the model that was are gone.
    assert len(await rows(house)) == honest.nodes_computed


async def test_a_worded_statement_cites_only_what_its_words_are_from(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    first_alone = Scribe(lambda asked: re.findall(r"^Statement 1: (.*)", asked, re.MULTILINE)[0])
    summary = await summaries(house, first_alone).summarize("ada", request(Mode.ABSTRACTIVE))
    worded = [it for it in summary.statements if it.generated]
    assert worded
    for it in worded:
        assert [cited.text for cited in it.citations] == [it.text]


async def test_a_focus_is_worded_from_what_was_found_for_it(house):
    await fill(house, {"d.md": range(20)})
    scribe = Joiner()
    asked = request(Mode.ABSTRACTIVE, focus="what does the lamp do?")
    summary = await summaries(house, scribe).summarize("ada", asked)
    assert scribe.written
    assert summary.generator_digest == scribe.digest
    assert not await rows(house)


async def test_modes_keep_their_own_nodes(house):
    await fill(house, {"d.md": range(20)})
    told = summaries(house)
    for _ in range(2):
        for mode in Mode:
            last = await told.summarize("ada", request(mode))
    assert last.nodes_computed == 0


async def test_a_deleted_collection_and_a_gone_document_leave_no_node(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    told = summaries(house)
    await told.summarize("ada", request())
    above = await nodes_above(house, "d1.md")
    assert above
    await house.removal.document("ada", "rules", "d1.md")
    assert set(await rows(house)).isdisjoint(above)
    await house.removal.collection("ada", "rules")
    assert not await rows(house)


async def test_what_is_deleted_while_it_is_summarised_is_not_kept(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    scribe = Joiner()
    scribe.stops_after = 3
    told = summaries(house, scribe)
    running = asyncio.create_task(told.summarize("ada", request(Mode.ABSTRACTIVE)))
    await asyncio.wait_for(scribe.stopped.wait(), 60)
    for name in ("d0.md", "d1.md", "d2.md"):
        await house.removal.document("ada", "rules", name)
    await house.ingested("new.md", text(500))
    scribe.stops_after = -1
    scribe.open.set()
    summary = await asyncio.wait_for(running, 60)
    assert {cited.document for it in summary.statements for cited in it.citations} == {"new.md"}
    assert {name for row in (await rows(house)).values() for name in row[-1]} == {"new.md"}


async def test_a_text_that_was_replaced_is_in_no_node_and_others_stay(house):
    await fill(house, {f"d{at}.md": range(at * 12, at * 12 + 12) for at in range(3)})
    told = summaries(house)
    await told.summarize("ada", request())
    before = await rows(house)
    await house.ingested("d1.md", text(*range(500, 512)))
    after = await rows(house)
    assert after.keys() < before.keys()
    assert {key for key, row in before.items() if "d1.md" not in row[-1]} <= after.keys()
    for seed in range(12, 24):
        for sentence in section(seed).splitlines()[2].split(".")[:-1]:
            assert not any(sentence.strip() in str(row) for row in after.values())


async def test_a_node_that_quotes_a_passage_that_is_gone_is_not_kept(house):
    await fill(house, {"d.md": range(3)})
    number = await house.collections.number("ada", "rules")
    [document, chunk] = await house.database.read(
        lambda session: session.execute(select(ChunkRow.document_number, ChunkRow.chunk)).first()
    )
    maker = Maker("ada", number, Mode.EXTRACTIVE, HashedEmbeddings().digest)

    def keep(quoted):
        node = Made(b"k" * 32, 1, (Statement("x", (Quote(quoted, 0, 1),)),), frozenset({document}))
        return house.database.write(lambda session: nodes.keep(session, maker, [node]))

    assert not await keep(chunk + 1)
    assert not await rows(house)
    assert await keep(chunk)
    assert await rows(house)


async def test_another_tenant_with_the_same_documents_shares_no_node(house):
    await house.create(tenant="ben")
    for tenant in ("ada", "ben"):
        await house.ingested("d.md", text(*range(15)), tenant=tenant)
    told = summaries(house)
    first, second = [await told.summarize(tenant, request()) for tenant in ("ada", "ben")]
    assert first.nodes_computed == second.nodes_computed > 0
    assert second.nodes_reused == 0
    assert [it.text for it in first.statements] == [it.text for it in second.statements]
