"""Filters, readers, pages and explanations in the SDK's and the command line's words, against a real server."""

import json
from datetime import UTC, date, datetime

import pytest
from trivium_client import InvalidRequestError, NotFoundError, Trivium, TriviumError, field

from tests.contract.retriever.desk import ran_in_process
from tests.harness.wording import missing
from tests.library import Library


class Desk:
    """Somebody with the SDK, the command line and a filled collection."""

    def __init__(self, library):
        self.key = library.stack.tenant_key(library.stack.tenant())
        self.address = library.process.address
        self.client = Trivium(api_key=self.key, addresses={"retriever": self.address})
        self.client.collections.create("fish")
        for name, text, options in (
            ("cheap.txt", "Smoked herring.", {"metadata": {"price": 3, "day": date(2024, 5, 1), "labels": ["fish"]}}),
            ("dear.txt", "Smoked herring, the best.", {"metadata": {"price": 40, "lang": "nl"}}),
            ("copy.txt", "Smoked herring.", {}),
            ("board.txt", "Smoked herring for the board.", {"readers": ["anna"]}),
        ):
            self.client.docs.add_text(text, collection="fish", document=name, **options)
        for _ in self.client.docs.watch("fish"):
            pass

    def found(self, *query, **options):
        return {
            hit.span.document for hit in self.client.docs.search(query or "herring", collections=["fish"], **options)
        }

    def told(self, *arguments):
        environment = {"TRIVIUM_API_KEY": self.key, "TRIVIUM_RETRIEVER_ADDRESS": self.address}
        return ran_in_process("docs", *arguments, environment=environment)

    def run(self, *arguments):
        return self.told("search", "herring", "-c", "fish", *arguments)


@pytest.fixture(scope="session", params=["sqlite"])
def library(library: Library) -> Library:
    """One: what a client asks for and shows is the same whatever the catalog is in."""
    return library


@pytest.fixture(scope="module")
def desk(library):
    made = Desk(library)
    yield made
    made.client.close()


def test_the_sdk_filters_by_metadata_of_every_type(desk):
    kept = desk.client.docs.get("cheap.txt", collection="fish")
    assert kept.typed_metadata == {"price": 3.0, "day": datetime(2024, 5, 1, tzinfo=UTC), "labels": ("fish",)}
    price, lang = field("price"), field("lang")
    assert desk.found(where=price < 10) == {"cheap.txt"}
    assert desk.found(where=(price > 10) & (lang == "nl") | field("labels").contains_any("fish")) == {
        "cheap.txt",
        "dear.txt",
    }
    assert desk.found(where=~price.exists()) == {"copy.txt"}
    with pytest.raises(InvalidRequestError, match="price") as caught:
        desk.found(where=price == "3")
    assert caught.value.reason == "FILTER_TYPE_MISMATCH"


def test_the_sdk_asks_for_its_readers(desk):
    assert "board.txt" not in desk.found()
    assert "board.txt" in desk.found(as_readers=["anna"])
    assert desk.client.docs.get("board.txt", collection="fish").readers == ("anna",)


def test_the_sdk_collapses_reranks_widens_and_explains(desk):
    hits = desk.client.docs.search(
        ["herring", "smoked fish"],
        collections=["fish"],
        collapse_duplicates=True,
        rerank=True,
        diversity_lambda=0.9,
        section_characters=500,
        explain=True,
    )
    together = {hit.span.document: {it.document for it in hit.duplicates} for hit in hits}
    assert {frozenset({name, *others}) for name, others in together.items()} == {
        frozenset({"cheap.txt", "copy.txt"}),
        frozenset({"dear.txt"}),
    }
    assert all(hit.rerank_score is not None for hit in hits)
    assert {it.list for it in hits[0].places} >= {"dense", "sparse", "feedback_dense", "query", "rerank"}
    (hit, *_) = desk.client.docs.search("herring", collections=["fish"], feedback=False, explain=True)
    assert {it.list for it in hit.places} == {"dense", "sparse", "document"}


def test_the_sdk_and_the_command_line_say_when_the_answer_does_not_seem_to_be_there(desk):
    found = desk.client.docs.search("Who repairs the observatory's telescope?", collections=["fish"])
    assert found.hits
    assert not found.answerability.answerable
    assert found.answerability.threshold == desk.client.collections.get("fish").answerable_threshold == 0.5
    shown = desk.told("search", "Who repairs the observatory's telescope?", "-c", "fish").stdout
    assert shown.startswith("The answer does not seem to be here (0.0")
    desk.client.collections.update("fish", answerable_threshold=0.0)
    assert desk.client.docs.search("telescope", collections=["fish"]).answerability.answerable
    assert desk.told("search", "telescope", "-c", "fish", "--explain").stdout.startswith("The answer seems to be here")
    desk.client.collections.update("fish", answerable_threshold=0.5)


def test_the_sdk_goes_on_page_after_page(desk):
    whole = [hit.span.document for hit in desk.client.docs.search("herring", collections=["fish"])]
    paged = [hit.span.document for hit in desk.client.docs.search_pages("herring", collections=["fish"], page_size=1)]
    assert paged == whole
    assert len(whole) == 3
    with pytest.raises(NotFoundError):
        next(desk.client.docs.search_pages("herring", collections=["nowhere"]))
    assert issubclass(NotFoundError, TriviumError)


def test_the_command_line_searches_with_the_same_options(desk):
    answer = desk.run("--where", "price<10", "--where", "not lang", "--json")
    assert [hit["span"]["document"] for hit in json.loads(answer.stdout)["hits"]] == ["cheap.txt"]
    shown = desk.run("--as", "anna", "--collapse", "--explain", "--rerank", "--section", "500").stdout
    assert "fish/board.txt [0, 29)" in shown
    assert "also in fish/" in shown
    assert "rerank: rank 1" in shown
    refused = desk.run("--where", "price=cheap")
    assert refused.returncode != 0
    assert not missing(refused.stderr, "price", "number")
    assert desk.run("--where", "price>1000").stdout == "Nothing was found.\n"


def test_the_sdk_counts_and_lists_exactly(desk):
    tally = desk.client.docs.count("herring", collection="fish", group_by="price", where=field("price") > 1)
    assert (tally.documents, tally.searched) == (2, 2)
    assert {(group.value, group.documents) for group in tally.groups} == {(3.0, 1), (40.0, 1)}
    assert desk.client.docs.count("herring", collection="fish", as_readers=["anna"]).documents == 4
    found = list(desk.client.docs.matching("herring", collection="fish"))
    assert [it.document for it in found] == ["cheap.txt", "copy.txt", "dear.txt"]
    assert {(it.first.text, it.first.span.start, it.first.span.end) for it in found} == {("herring", 7, 14)}
    assert desk.client.docs.count("", collection="fish").documents == 3


def test_the_command_line_counts_and_lists(desk):
    counted = desk.told("count", "herring", "-c", "fish", "--by", "price").stdout.splitlines()
    assert not missing(counted[0], "3 of 3 documents", "3 passages")
    assert [line.split()[:2] for line in counted[2:]] == [["3", "1"], ["40", "1"], ["1", "1"]]
    listed = desk.told("which", "herring", "-c", "fish", "--where", "price<10").stdout
    assert listed.count("\n") == 1
    assert not missing(listed, "cheap.txt", "1 passage", "herring")
    assert "[7, 14)" in listed
    none = desk.told("which", "albatross", "-c", "fish").stdout
    assert ".txt" not in none
    assert "[" not in none


def test_the_sdk_and_the_command_line_summarise_with_citations(desk):
    summary = desk.client.docs.summarize("fish", as_readers=["anna"])
    assert (summary.coverage, summary.chunks) == (1.0, 4)
    for statement in summary.statements:
        for it in statement.citations:
            span = it.span
            held = desk.client.docs.text(span.document, collection="fish", start=span.start, end=span.end)
            assert held.text == it.text
    assert "board" in summary.text
    shown = desk.told("summarize", "fish", "--focus", "the best herring", "--where", "price>10").stdout.splitlines()
    assert shown[:2] == ["1. Smoked herring, the best.", "   dear.txt [0, 25)"]
    assert not missing(shown[-1], "1 of 1 passage", "1 node", "0 reused")
