"""A manifest has one text, and its digest names the version."""

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.chassis.errors import Failure, Reason
from services.registry.manifests import Evaluation, File, Kind, Lineage, Manifest, parse, version_id

TEXT = some.text(max_size=20)
FINITE = some.floats(allow_nan=False, allow_infinity=False)
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(2**53), 2**53) | FINITE | TEXT,
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FILES = some.lists(
    some.builds(File, some.text("abc.", min_size=1, max_size=8), some.just("0" * 64), some.integers(0, 2**50)),
    max_size=4,
    unique_by=lambda file: file.filename,
).map(tuple)
MANIFESTS = some.builds(
    Manifest,
    tenant=TEXT,
    model=TEXT,
    kind=some.sampled_from(Kind),
    base_digest=TEXT,
    template_digest=TEXT,
    tokenizer_digest=TEXT,
    files=FILES,
    lineage=some.builds(
        Lineage,
        job=TEXT,
        config=some.dictionaries(TEXT, JSON, max_size=3),
        libraries=some.dictionaries(TEXT, TEXT, max_size=3),
        metrics=some.dictionaries(TEXT, FINITE, max_size=3),
        seed=some.integers(0, 2**62),
        code_version=TEXT,
        evaluations=some.lists(some.builds(Evaluation, TEXT, FINITE, TEXT, some.integers(0, 9), TEXT), max_size=3).map(
            tuple
        ),
        further_parents=some.lists(TEXT, max_size=3).map(tuple),
        base_uri=TEXT,
        base_digest=TEXT,
    ),
    rank=some.integers(0, 512),
    parameters=some.integers(0, 2**40),
)

PLAIN = Manifest("t", "m", Kind.LORA, "sha256:b", "", "", (File("a", "0" * 64, 1), File("b", "1" * 64, 2)), Lineage())


@given(MANIFESTS)
def test_reading_a_manifest_back_and_writing_it_again_gives_the_same_text(manifest: Manifest):
    text = manifest.canonical()
    assert parse(text).canonical() == text
    assert version_id(text) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_the_order_of_files_and_keys_does_not_matter():
    turned = replace(PLAIN, files=PLAIN.files[::-1])
    assert turned.canonical() == PLAIN.canonical()
    one, two = ({"x": 1, "y": 2}, {"y": 2, "x": 1})
    assert (
        replace(PLAIN, lineage=Lineage(config=one)).canonical()
        == replace(PLAIN, lineage=Lineage(config=two)).canonical()
    )


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "u"}, {"model": "n"}, {"kind": Kind.FULL}, {"base_digest": "sha256:c"}, {"template_digest": "x"},
        {"tokenizer_digest": "x"}, {"files": PLAIN.files[:1]}, {"lineage": Lineage(seed=1)}, {"rank": 1}, {"parameters": 1},
    ],
)  # fmt: skip
def test_every_field_changes_the_version(change):
    assert version_id(replace(PLAIN, **change).canonical()) != version_id(PLAIN.canonical())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("-inf")], {"deep": [float("nan")]}])
def test_a_number_that_json_cannot_hold_is_refused_with_its_place(value):
    with pytest.raises(Failure) as caught:
        replace(PLAIN, lineage=Lineage(config={"rate": value})).canonical()
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.field is not None
    assert caught.value.field.startswith("lineage.config.rate")


def test_the_text_has_no_spaces_and_names_its_schema():
    document = json.loads(PLAIN.canonical())
    assert document["schema"] == "trivium.version/1"
    assert json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == PLAIN.canonical()


def test_what_later_releases_added_leaves_the_text_of_what_was_there_before_alone():
    text = (
        '{"base_digest":"sha256:b","files":[{"filename":"a","sha256":"' + "0" * 64 + '","size_bytes":1},'
        '{"filename":"b","sha256":"' + "1" * 64 + '","size_bytes":2}],"kind":"LORA","lineage":{"config":{},'
        '"dataset_digest":"","dataset_rows":0,"job":"","libraries":{},"metrics":{},"parent_version":"","seed":0,'
        '"trained_tokens":0},"model":"m","parameters":0,"rank":0,"schema":"trivium.version/1","template_digest":"",'
        '"tenant":"t","tokenizer_digest":""}'
    )
    assert PLAIN.canonical() == text
    assert parse(text) == PLAIN


def test_every_parent_is_named_once_the_first_one_first():
    lineage = Lineage(parent_version="b", further_parents=("a", "b", "", "c"))
    assert lineage.parents == ("b", "a", "c")
