"""A document that has taken over the process that reads it: nothing that it sends runs, and it fails alone."""

import json
import os
import pickle
import struct
from array import array

import pytest

from services.chassis.errors import Failure, Reason
from services.retriever.documents.media import MediaType
from services.retriever.formats.convert import Raw
from services.retriever.ingestion import answers, parsing
from services.retriever.ingestion.answers import Answer, Kind
from services.retriever.text.blocks import BlockKind
from tests.unit.retriever.reader_processes import readers
from tests.unit.retriever.taken_over import TAKES_OVER

LIMITS = parsing.Limits(seconds=20, memory_bytes=1024**3)
MOST = 10_000


@pytest.fixture
async def parser():
    made = parsing.ChildParser(LIMITS, "tests.unit.retriever.taken_over")
    yield made
    await made.stop()


async def failure(parser, content):
    with pytest.raises(Failure) as failed:
        await parser.convert("hostile.html", Raw(TAKES_OVER + content, MediaType.HTML, "", MOST))
    assert failed.value.reason is Reason.DOCUMENT_UNREADABLE
    assert "hostile.html" in failed.value.sentence
    return failed.value.sentence


async def reads_on(parser):
    """The next document is read, by a process that is not taken over."""
    found = await parser.convert("good.html", Raw(b"<h1>Quay</h1><p>It is open.</p>", MediaType.HTML, "", MOST))
    assert found.text == "# Quay\n\nIt is open."
    assert [block.kind for block in found.outline.blocks] == [BlockKind.HEADING, BlockKind.PARAGRAPH]
    assert (await parser.outline("next.md", "# Next\n\nwords", markdown=True)).title == "Next"


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def sent(text=b"words", heads=None, places=(0, 5), kind=Kind.CONVERTED, **changed):
    described = {"title": "", "notice": "", "paths": [[]], "blocks": [["paragraph", 0, 0, 1]], "pages": 0, **changed}
    heads = json.dumps(described).encode() if heads is None else heads
    answer = Answer(kind, text, heads, places if isinstance(places, bytes) else array("I", places).tobytes())
    return answer.header + b"".join(answers.parts(answer))


RUBBISH = {
    "zeros": bytes(200),
    "an unknown kind": b"\x63" + bytes(24),
    "more than the document can hold": struct.pack("<BQQQ", 1, 1 << 40, 0, 0),
    "sums that overflow": struct.pack("<BQQQ", 1, 2**64 - 1, 2**64 - 1, 2**64 - 1),
    "text that is no UTF-8": sent(b"\xff\xfe\xff\xfe\xff"),
    "more text than is allowed": sent(b"a" * (MOST + 1)),
    "a NUL in the text": sent(b"wo\0ds"),
    "heads that are no JSON": sent(heads=b"{"),
    "heads that are a list": sent(heads=b"[]"),
    "heads nested beyond measure": sent(heads=b"[" * 100_000),
    "a number of ten thousand digits": sent(heads=b"9" * 10_000),
    "heads without blocks": sent(heads=b'{"title": "", "notice": "", "paths": [], "pages": 0}'),
    "a title that is a number": sent(title=7),
    "a title with half a character": sent(title="\ud800"),
    "a NUL in a heading": sent(paths=[["a\0"]]),
    "a path that is a text": sent(paths=["abc"]),
    "a block of no kind": sent(blocks=[["exploit", 0, 0, 1]]),
    "a block whose kind is a list": sent(blocks=[[[], 0, 0, 1]]),
    "a block of level 7": sent(blocks=[["heading", 7, 0, 1]]),
    "a level that is true": sent(blocks=[["heading", True, 0, 1]]),
    "a path that is none": sent(blocks=[["paragraph", 0, 1, 1]]),
    "a path before the first": sent(blocks=[["paragraph", 0, -1, 1]]),
    "fewer places than units": sent(blocks=[["paragraph", 0, 0, 2]]),
    "more places than units": sent(places=(0, 2, 3, 5)),
    "a unit beyond the text": sent(places=(0, 6)),
    "a unit that ends before it begins": sent(places=(4, 2)),
    "a unit of nothing": sent(places=(2, 2)),
    "units that overlap": sent(blocks=[["paragraph", 0, 0, 2]], places=(0, 3, 2, 5)),
    "half a unit": sent(blocks=[], places=(1,)),
    "part of a number": sent(places=b"\0\0\0\0\5\0"),
    "pages beyond the places": sent(pages=9),
    "a page beyond the text": sent(pages=1, places=(9, 0, 5)),
    "fewer pages than none": sent(pages=-1),
    "pages that are a fraction": sent(pages=0.5),
    "a reason that is none": sent(b"", b'["only one"]', (), Kind.UNREADABLE),
    "a reason beyond measure": sent(b"", json.dumps(["a" * 3000, ""]).encode(), (), Kind.UNREADABLE),
    "reasons that are objects": sent(b"", b"[{}, {}]", (), Kind.UNREADABLE),
}


@pytest.mark.parametrize("kind", RUBBISH)
def test_an_answer_that_no_reader_gives_is_rubbish(kind):
    with pytest.raises(answers.Rubbish):
        taken(RUBBISH[kind])


def taken(message):
    """As the service takes it."""
    kind, lengths = answers.lengths(message[: answers.HEADER.size], MOST)
    rest = message[answers.HEADER.size :]
    text, heads = rest[: lengths[0]], rest[lengths[0] : lengths[0] + lengths[1]]
    return answers.converted(Answer(Kind(kind), text, heads, rest[lengths[0] + lengths[1] :]), None, MOST)


def test_what_a_reader_gives_is_none():
    found = taken(sent())
    assert (found.text, found.outline.blocks[0].units) == ("words", ((0, 5),))


async def test_rubbish_and_a_pickle_fail_their_document_alone_and_run_nothing(parser, tmp_path):
    victim = tmp_path / "victim"
    pickled = pickle.dumps(Bomb(victim))
    for message in (
        pickled,
        # As the module ``multiprocessing`` frames them.
        struct.pack("!i", len(pickled)) + pickled,
        sent(heads=pickled),
        RUBBISH["zeros"],
        RUBBISH["more than the document can hold"],
        RUBBISH["units that overlap"],
    ):
        padded = message + bytes(max(0, answers.HEADER.size - len(message)))
        assert "answer" in await failure(parser, b"say " + padded)
        await reads_on(parser)
    assert not victim.exists()


async def test_an_answer_in_the_place_of_the_next_is_given_to_nobody(parser):
    """It would be read as the next document's: that one is read by another process."""
    hidden = bytes(16) + sent(b"false")
    first = await parser.convert("two.html", Raw(TAKES_OVER + b"say " + sent() + hidden, MediaType.HTML, "", MOST))
    assert first.text == "words"
    await reads_on(parser)


async def test_the_reader_reaches_no_network_starts_nothing_and_writes_nothing(parser, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("stays")
    for what in ("network", "program", "process", "write", "delete", "rename"):
        assert "not permitted" in await failure(parser, f"{what} {victim}".encode()), what
    # Libraries may have threads.
    assert "nothing stopped it" in await failure(parser, b"thread ")
    assert victim.read_text() == "stays"
    await reads_on(parser)
    (reader,) = readers()
    assert not reader.children()


async def test_the_reader_is_told_no_secret_by_its_environment(parser, monkeypatch):
    monkeypatch.setenv("TRIVIUM_RETRIEVER_BUCKETS", "a secret key")
    assert "TRIVIUM" not in await failure(parser, b"environment ")
