"""A manual and reports that nobody wrote for us: they ingest, and answers over them cite the very characters (promise 9).

A slice with big tables, code, lists of links and forms in every run; all 1,164 documents and thirty questions in
`make soak`.  `make bench NAME=retriever ARGS="--part cited"` tells of each question what became of it.
"""

import uuid
from collections.abc import Iterator

import pytest
from trivium_client import Trivium

from services.ops.supervisor import Suite
from tests.load.retriever.manual_asking import IN_FORM, MOST, ask, bring_in, verdict
from tests.load.retriever.manual_judging import found_figures
from tests.load.retriever.manual_questions import QUESTIONS
from tests.load.retriever.sets import manual_and_reports
from tests.public_sets import public_sets

PAGES = (
    *("errcodes-appendix", "limits", "btree-gist", "tsm-system-rows", "sql-notify", "pgprewarm", "app-dropdb"),
    *("plpgsql-implementation", "sql-commands", "index", "preface", "queries"),
)
REPORTS = ("20071229X02007", "20080122X00080")
ASKED = ("errcodes-appendix.html", "btree-gist.html", "sql-notify.html", "20080122X00080.pdf")


@pytest.fixture(scope="module")
def client(suite: Suite) -> Iterator[Trivium]:
    with suite.client() as opened:
        yield opened


def test_a_slice_of_them_is_found_and_cited(client: Trivium) -> None:
    wanted = {f"{page}.html" for page in PAGES} | {f"{report}.pdf" for report in REPORTS}
    sources = [it for it in manual_and_reports(public_sets()) if it.document in wanted]
    assert len(sources) == len(wanted)
    collection = f"slice-{uuid.uuid4().hex[:8]}"
    assert bring_in(client, collection, sources) == {}
    contents = {it.document: it.content for it in sources}
    for posed in (it for it in QUESTIONS if it.document in ASKED):
        found = verdict(client, collection, posed, contents[posed.document])
        assert 0 < found.place <= 3, posed.question
        assert (found.offsets_wrong, found.pages_wrong) == (0, 0), posed.question
        answer = ask(client, collection, posed, IN_FORM)
        assert answer.offered, posed.question
        assert not answer.astray, posed.question


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_all_of_them_are_found_and_cited(client: Trivium) -> None:
    sources = manual_and_reports(public_sets())
    assert len(sources) == 1144 + 20
    collection = f"manual-{uuid.uuid4().hex[:8]}"
    assert bring_in(client, collection, sources) == {}
    contents = {it.document: it.content for it in sources}
    figures = found_figures([verdict(client, collection, it, contents[it.document]) for it in QUESTIONS], MOST)
    assert (figures["manual_offsets_wrong"], figures["manual_pages_wrong"]) == (0, 0)
    # As measured with the embedder in float32: what is missing beyond it is lost.
    assert figures["manual_cited_at_1"] >= 15
    assert figures["manual_cited_at_5"] >= 26
    asked = [ask(client, collection, it, IN_FORM) for it in QUESTIONS]
    assert not sum(it.astray for it in asked)
    # In bfloat16 it was 22 with texts padded and is 21 without: two passages about the segments that initdb makes are as
    # good as level for the second place, above all that a second look moves, and rounding decides.
    assert sum(it.offered for it in asked) >= 21
    # Which source it names is the small model's own choice.
    assert sum(it.cited for it in asked) >= 14
