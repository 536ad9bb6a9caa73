"""Filters and metadata as users write them, in Python and at the command line."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
import typer
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium_client import field, metadata
from trivium_client.cli.searching import _introduction
from trivium_client.cli.searching import test as where
from trivium_client.filters import Filter
from trivium_client.nouns import Findings, Hit, Reranking, Span
from trivium_client.searching import _request


def condition(tree: Filter) -> tuple[str, str, list[object], bool]:
    message = tree._message.condition
    operator = pb.FilterOperator.Name(message.operator).removeprefix("FILTER_OPERATOR_")
    return message.field, operator, [metadata.value(it) for it in message.values], message.ignore_case


@pytest.mark.parametrize(
    "value",
    ["text", "", 3.5, -1.0, True, False, ("a", "b"), (), datetime(2024, 5, 1, 12, 30, 0, 250, UTC)],
)
def test_values_come_back_as_they_were_given(value):
    back = metadata.value(metadata.message(value))
    assert back == value
    assert type(back) is type(value)


def test_a_date_is_its_first_moment_in_utc_and_a_zone_is_minded():
    assert metadata.value(metadata.message(date(2024, 5, 1))) == datetime(2024, 5, 1, tzinfo=UTC)
    east = datetime(2024, 5, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert metadata.value(metadata.message(east)) == datetime(2024, 5, 1, tzinfo=UTC)
    with pytest.raises(TypeError, match="dict"):
        metadata.message({"a": "b"})  # type: ignore[arg-type]  # what is refused


def test_texts_travel_as_they_did_and_other_types_beside_them():
    fields = metadata.header_fields({"a": "x", "n": 3, "l": ["y"]})
    header = pb.DocumentHeader(**fields)
    assert dict(header.metadata) == {"a": "x"}
    assert {name: metadata.value(it) for name, it in header.typed_metadata.items()} == {"n": 3.0, "l": ("y",)}


def test_python_comparisons_are_conditions():
    price = field("price")
    assert condition(price == 3) == ("price", "EQUAL", [3.0], False)
    assert condition(price != "x") == ("price", "NOT_EQUAL", ["x"], False)
    assert condition(price < 3) == ("price", "LESS", [3.0], False)
    assert condition(price >= date(2024, 1, 1)) == (
        "price",
        "GREATER_OR_EQUAL",
        [datetime(2024, 1, 1, tzinfo=UTC)],
        False,
    )
    assert condition(price.between(1, 2)) == ("price", "BETWEEN", [1.0, 2.0], False)
    assert condition(price.is_in("a", "b", ignore_case=True)) == ("price", "IN", ["a", "b"], True)
    assert condition(price.contains_all("a", "b")) == ("price", "CONTAINS_ALL", ["a", "b"], False)
    assert condition(price.exists()) == ("price", "EXISTS", [], False)


def test_filters_are_joined_by_and_or_and_not():
    tree = ~((field("a") == 1) & (field("b") == 2) | field("c").exists())
    inner = tree._message.negated.any_of.filters
    assert [it.WhichOneof("test") for it in inner] == ["all_of", "condition"]
    assert [it.condition.field for it in inner[0].all_of.filters] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price<10", ("price", "LESS", [10.0], False)),
        ("price >= -1.5e3", ("price", "GREATER_OR_EQUAL", [-1500.0], False)),
        ("day<=2024-05-01", ("day", "LESS_OR_EQUAL", [datetime(2024, 5, 1, tzinfo=UTC)], False)),
        ("sold=true", ("sold", "EQUAL", [True], False)),
        ("code='007'", ("code", "EQUAL", ["007"], False)),
        ("lang!=nl", ("lang", "NOT_EQUAL", ["nl"], False)),
        ("name=nan", ("name", "EQUAL", ["nan"], False)),
        ("title~Gate a=b", ("title", "CONTAINS", ["Gate a=b"], True)),
        ("path^rules/", ("path", "PREFIX", ["rules/"], True)),
        ("labels:fish", ("labels", "CONTAINS_ANY", ["fish"], False)),
        ("labels", ("labels", "EXISTS", [], False)),
    ],
)
def test_the_command_line_takes_tests_as_people_write_them(text, expected):
    assert condition(where(text)) == expected
    assert condition(Filter(where(f"not {text}")._message.negated)) == expected


def test_an_empty_test_is_refused():
    with pytest.raises(typer.BadParameter, match="field"):
        where(" ")


@pytest.mark.parametrize(
    "text",
    [
        "", "not", "not ", ">=2024", "year>=", "year>>2024", "year == 2024", "year=<2024", "labels:",
        "year>=2024 and year<2026", "year<2000 or  year>2020",
    ],
)  # fmt: skip
def test_what_is_no_test_is_refused_and_never_a_text_to_look_for(text):
    with pytest.raises(typer.BadParameter, match=r"year>=2024|--where"):
        where(text)


def test_signs_of_a_value_stand_in_quotes():
    assert condition(where("note='a and b<c'")) == ("note", "EQUAL", ["a and b<c"], False)
    assert condition(where("note='>5'")) == ("note", "EQUAL", [">5"], False)
    assert condition(where("note=''")) == ("note", "EQUAL", [""], False)


def test_one_collection_may_be_named_as_a_text():
    assert _request("fish", "harbour", "", None, None, (), ()).collections == ["harbour"]


def test_a_search_that_was_not_reranked_says_why_and_one_that_was_says_nothing():
    hit = Hit(Span("c", "d", "v", 0, 1), "text", "title", (), 1.0)
    for reranking, said in (
        (Reranking(False, "No model is named so", 0), "Not reranked: No model is named so\n"),
        (Reranking(True, "", 40), ""),
        (None, ""),
    ):
        assert _introduction(Findings((hit,), reranking=reranking), explain=False) == said
