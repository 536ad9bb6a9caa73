import asyncio

import pytest
import uvloop

from services.chassis.errors import Failure, Reason
from services.retriever.ingestion import parsing
from services.retriever.text.blocks import BlockKind
from tests.unit.retriever.reader_processes import readers

ROOMY = parsing.Limits(seconds=60, memory_bytes=1024**3)


async def test_a_text_comes_back_as_blocks_and_the_child_ends_with_the_block():
    async with parsing.opened(ROOMY) as parser:
        outline = await parser.outline("a.md", "# One\n\nwords", markdown=True)
        assert [block.kind for block in outline.blocks] == [BlockKind.HEADING, BlockKind.PARAGRAPH]
        assert readers()
    assert not readers()


async def test_a_document_that_takes_too_much_processor_time_fails_alone():
    async with parsing.opened(parsing.Limits(seconds=0.5, memory_bytes=1024**3)) as parser:
        with pytest.raises(Failure) as failed:
            await parser.outline("slow.md", "# words\n" * 200_000, markdown=True)
        assert failed.value.reason is Reason.DOCUMENT_NOT_PARSED
        assert "slow.md" in failed.value.sentence
        assert "processor time" in failed.value.sentence
        for number in range(3):
            assert (await parser.outline("next.md", f"# Next {number}", markdown=True)).title == f"Next {number}"


async def test_a_document_that_takes_too_much_memory_fails_and_the_next_one_is_parsed():
    async with parsing.opened(parsing.Limits(seconds=120, memory_bytes=180 * 1024**2)) as parser:
        with pytest.raises(Failure) as failed:
            await parser.outline("huge.md", "- a\n" * 90_000, markdown=True)
        assert failed.value.reason is Reason.DOCUMENT_NOT_PARSED
        assert (await parser.outline("next.md", "# Next", markdown=True)).title == "Next"


async def test_a_child_that_was_killed_is_replaced():
    async with parsing.opened(ROOMY) as parser:
        await parser.outline("a.md", "words", markdown=True)
        for reader in readers():
            reader.kill()
        with pytest.raises(Failure):
            await parser.outline("b.md", "words", markdown=True)
        assert (await parser.outline("c.md", "# C", markdown=True)).title == "C"


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_child_that_was_killed_while_it_had_nothing_to_read_fails_no_document(run):
    async def parsed():
        async with parsing.opened(ROOMY) as parser:
            await parser.outline("a.md", "words", markdown=True)
            child = parser._child
            assert child is not None
            child.kill()
            await child.wait()
            assert (await parser.outline("b.md", "# B", markdown=True)).title == "B"

    run(parsed())
