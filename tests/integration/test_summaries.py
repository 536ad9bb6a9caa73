"""Summaries that the real generator words: what it says is of what is cited, and is written once."""

import re
from collections.abc import Iterator

import pytest
from trivium_client import Trivium

from services.ops.supervisor import Suite
from tests.contract.retriever.guide import GUIDE


@pytest.fixture(scope="module")
def client(suite: Suite) -> Iterator[Trivium]:
    with suite.client() as opened:
        opened.collections.create("harbour")
        opened.docs.add_text(GUIDE, collection="harbour", document="guide.md")
        for _ in opened.docs.watch("harbour"):
            pass
        yield opened


@pytest.mark.parametrize("focus", ["", "What does a mooring cost?"])
def test_the_generator_words_a_summary_from_what_it_cites(client: Trivium, focus: str) -> None:
    summary = client.docs.summarize("harbour", mode="abstractive", focus=focus)
    assert summary.generator_digest.startswith("sha256:")
    assert summary.statements
    for statement in summary.statements:
        for it in statement.citations:
            held = client.docs.text(
                it.span.document, collection="harbour", version=it.span.version, start=it.span.start, end=it.span.end
            )
            assert held.text == it.text
        cited = " ".join(it.text for it in statement.citations)
        assert set(re.findall(r"\d+", statement.text)) <= set(re.findall(r"\d+", cited))


def test_what_the_generator_worded_is_kept(client: Trivium) -> None:
    first, second = [client.docs.summarize("harbour", mode="abstractive") for _ in range(2)]
    assert second.nodes_computed == 0
    assert second.statements == first.statements
