"""Damaged and hostile files, each of which must fail alone, with a reason, and leave the next one readable."""

import pytest

from services.chassis.errors import Failure, Reason
from services.retriever.documents import media
from services.retriever.formats.convert import Raw
from services.retriever.ingestion import parsing
from tests.harness.plugin_sampling import sample
from tests.unit.retriever.conftest import opened
from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.hostile import BUILDERS, hostile_files
from tests.unit.retriever.reader_processes import readers

LIMITS = parsing.Limits(seconds=2, memory_bytes=1024**3)
SEED = 20_260


async def converted(parser, name, content):
    declared = media.of(media.Source(name, "", content))
    return await parser.convert(name, Raw(content, declared.media_type, declared.charset, 10_000_000))


async def all_fail(files):
    """Every one of some hostile files fails with its reason, and a good one in between is read."""
    good = building.plain_word("The harbour opens at six.")
    async with parsing.opened(LIMITS) as parser:
        for number, file in enumerate(files):
            with pytest.raises(Failure) as failed:
                await converted(parser, file.name, file.content)
            assert failed.value.reason is Reason.DOCUMENT_UNREADABLE, file.kind
            assert file.says in failed.value.sentence, file.kind
            if number % 10 == 9:
                assert (await converted(parser, "good.docx", good)).text == "The harbour opens at six."


async def test_hostile_files_of_every_class_fail_with_their_reasons():
    files = list(hostile_files(max(100, len(BUILDERS)), SEED))
    assert {file.kind for file in files} == set(BUILDERS)
    assert len(BUILDERS) >= 60
    await all_fail(sample(files, every=4))


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_five_hundred_hostile_files_fail_with_their_reasons():
    await all_fail(hostile_files(500, SEED))


async def test_hostile_files_fail_alone_in_a_batch_with_good_ones(tmp_path, embeddings):
    hostile = sample(list(hostile_files(len(BUILDERS), SEED + 1)), every=8)
    async with opened(tmp_path, embeddings) as house:
        await house.create()
        for number, file in enumerate(hostile):
            await house.put(f"{number}-{file.name}", file.content)
            await house.put(f"{number}-good.html", f"<p>Harbour number {number} opens at six.</p>")
        for number, file in enumerate(hostile):
            failed = await house.settled(f"{number}-{file.name}")
            assert (failed.state, failed.chunks) == ("failed", 0), file.kind
            assert file.says in failed.reason, file.kind
            assert (await house.settled(f"{number}-good.html")).state == "ready"


def test_hostile_files_are_the_same_for_ever():
    assert [it.content for it in hostile_files(5, 1)] == [it.content for it in hostile_files(5, 1)]


async def test_no_child_is_left_behind_by_a_file_that_killed_it():
    async with parsing.opened(parsing.Limits(seconds=1, memory_bytes=1024**3)) as parser:
        file = next(it for it in hostile_files(len(BUILDERS), 3) if it.kind == "pdf_whose_forms_draw_one_another")
        with pytest.raises(Failure):
            await converted(parser, file.name, file.content)
    assert not readers()
