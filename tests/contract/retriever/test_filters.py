"""Typed metadata and filters over the wire."""

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.harness.wording import missing
from tests.stack import refused


def moment(year, month=1, day=1):
    stamp = Timestamp()
    stamp.FromDatetime(datetime(year, month, day, tzinfo=UTC))
    return pb.MetadataValue(time=stamp)


def text(value):
    return pb.MetadataValue(text=value)


def texts(*values):
    return pb.MetadataValue(texts=pb.TextList(texts=values))


def number(value):
    return pb.MetadataValue(number=value)


def where(field, operator, *values, **fields):
    wanted = pb.FilterOperator.Value(f"FILTER_OPERATOR_{operator}")
    return pb.Filter(condition=pb.FilterCondition(field=field, operator=wanted, values=values, **fields))


def every(*filters):
    return pb.Filter(all_of=pb.FilterGroup(filters=filters))


def some(*filters):
    return pb.Filter(any_of=pb.FilterGroup(filters=filters))


HELD = {
    "cheap.txt": {
        "price": number(3),
        "day": moment(2024, 5),
        "labels": texts("fish", "Salted"),
        "sold": pb.MetadataValue(flag=True),
    },
    "dear.txt": {"price": number(40), "day": moment(2025, 2), "labels": texts("fish")},
    "old.txt": {"day": moment(1999), "labels": texts()},
    "bare.txt": {},
}


@pytest.fixture(scope="module")
def shelf(library):
    """A collection with metadata of every type and one document without; a test that changes it fills another one."""
    return filled(library)


def filled(library):
    reader = library.newcomer()
    for name, held in HELD.items():
        reader.put(name, f"Herring of the {name} barrel.", typed_metadata=held, metadata={"Place": name.title()})
    reader.settled()
    return reader


def test_metadata_keep_their_types(shelf):
    assert {name: dict(shelf.get(name).typed_metadata) for name in HELD} == HELD


# Which documents pass, by the filter's name.
PASSES = {
    "less": (where("price", "LESS", number(10)), {"cheap"}),
    "not equal": (where("price", "NOT_EQUAL", number(3)), {"dear"}),
    "negated": (pb.Filter(negated=where("price", "EQUAL", number(3))), {"dear", "old", "bare"}),
    "between times": (where("day", "BETWEEN", moment(2024), moment(2025)), {"cheap"}),
    "contains all": (where("labels", "CONTAINS_ALL", text("fish"), text("salted"), ignore_case=True), {"cheap"}),
    "contains any, by case": (where("labels", "CONTAINS_ANY", text("salted")), set()),
    "exists": (where("labels", "EXISTS"), {"cheap", "dear", "old"}),
    "flag": (where("sold", "EQUAL", pb.MetadataValue(flag=False)), set()),
    "prefix, by case": (where("Place", "PREFIX", text("o")), set()),
    "prefix": (where("Place", "PREFIX", text("o"), ignore_case=True), {"old"}),
    "in": (where("Place", "IN", text("Bare.Txt"), text("Old.Txt")), {"bare", "old"}),
    "every": (every(where("labels", "EXISTS"), pb.Filter(negated=where("price", "EXISTS"))), {"old"}),
    "some": (some(where("price", "GREATER", number(10)), where("day", "LESS", moment(2000))), {"dear", "old"}),
}  # fmt: skip
MODES = (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_SPARSE)


def test_a_filter_leaves_exactly_the_documents_that_pass(shelf):
    wrong = {}
    for name, (tree, passing) in PASSES.items():
        for mode in MODES:
            hits = shelf.search("herring barrel", mode=mode, filter=tree, top_k=100)
            found = {hit.document.removesuffix(".txt") for hit in hits}
            if found != passing:
                wrong[name, pb.SearchMode.Name(mode)] = (found, passing)
    assert wrong == {}


def test_filters_are_applied_before_the_best_are_taken(shelf):
    # Of the dense list's best one alone, nothing would be left.
    best = shelf.search("herring of the dear barrel", top_k=1)[0].document
    left = shelf.search("herring of the dear barrel", top_k=1, filter=where("day", "LESS", moment(2000)))
    assert best == "dear.txt"
    assert [hit.document for hit in left] == ["old.txt"]


def test_a_filter_that_cannot_be_applied_says_what_to_do(shelf):
    with refused("FILTER_TYPE_MISMATCH") as failures:
        shelf.search("herring", filter=where("price", "LESS", text("10")))
    told = {name: failures[0].variables[name] for name in ("name", "stored", "operator", "asked")}
    assert told == {"name": "price", "stored": "number", "operator": "LESS", "asked": "text"}
    assert "number" in failures[0].variables["remedy"]
    with refused("FILTER_INVALID") as failures:
        shelf.search("herring", filter=where("price", "PREFIX", number(1)))
    assert failures[0].variables["name"] == "price"
    assert not missing(failures[0].variables["problem"], "PREFIX", "text")
    for broken in (pb.Filter(), where("", "EXISTS"), where("price", "UNSPECIFIED"), every()):
        with refused("REQUEST_INVALID"):
            shelf.search("herring", filter=broken)


def test_other_metadata_count_at_once_and_embed_nothing(library):
    shelf = filled(library)
    before = shelf.statistics().vectors_computed
    shelf.put("bare.txt", "Herring of the bare.txt barrel.", typed_metadata={"price": number(1)})
    assert {hit.document for hit in shelf.search("herring", filter=where("price", "LESS", number(2)))} == {"bare.txt"}
    assert shelf.statistics().vectors_computed == before


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metadata": {"a": "x"}, "typed_metadata": {"a": number(1)}}, "FIELD_INVALID"),
        ({"typed_metadata": {"a": text("x\0")}}, "FIELD_INVALID"),
        ({"typed_metadata": {"a": number(float("nan"))}}, "REQUEST_INVALID"),
        ({"typed_metadata": {"a": pb.MetadataValue()}}, "REQUEST_INVALID"),
        ({"typed_metadata": {"a": pb.MetadataValue(time=Timestamp(seconds=10**12))}}, "REQUEST_INVALID"),
        ({"readers": ["a", "a"]}, "REQUEST_INVALID"),
    ],
)
def test_metadata_that_cannot_be_kept_are_refused(reader, fields, reason):
    with refused(reason):
        reader.put("a.txt", "words", **fields)
    assert reader.statistics().documents == 0
