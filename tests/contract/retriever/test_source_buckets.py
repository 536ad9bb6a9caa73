"""Buckets and prefixes of a real S3: what comes, what fails by name, what a kill leaves, and who may read what."""

import json
import sqlite3
import uuid
from contextlib import closing

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.places_to_read import add, counts, documents, ended, read, settings
from tests.harness.wording import missing
from tests.library import Library, Reader
from tests.stack import eventually, refused


def test_a_prefix_comes_whole_what_fails_is_named_and_again_only_what_changed_is_fetched(keeper, objects):
    objects.put("leave.md", "# Leave\n\nThirty days.\n")
    objects.put("quay/mooring.md", "# Mooring\n\nFourteen crowns.\n")
    objects.put("picture.md", b"\x89PNG\r\n\x1a\n\x00")
    objects.put("large.md", "word " * (11 * 1024 * 1024 // 5))
    answer = read(keeper, objects.url)
    assert counts(answer.source) == (4, 2, 0, 2, 0)
    assert answer.source.state == pb.SOURCE_STATE_READY
    assert not missing(answer.source.reason, "2 of 4")
    reasons = {item.uri.rpartition("/")[2]: item.reason for item in answer.failures}
    assert "TRIVIUM_RETRIEVER_MAX_DOCUMENT_BYTES" in reasons["large.md"]
    assert "PNG" in reasons["picture.md"]
    assert documents(keeper) == {f"{objects.url}/leave.md", f"{objects.url}/quay/mooring.md"}

    objects.put("quay/mooring.md", "# Mooring\n\nFifteen crowns.\n")
    objects.delete("leave.md")
    objects.put("picture.md", "# Picture\n\nWords after all.\n")
    source = read(keeper, objects.url).source
    # What could not be stored is tried again when somebody asks; the large one is not even fetched.
    assert counts(source) == (3, 2, 0, 1, 0)
    assert source.fetched_bytes < 100
    assert f"{objects.url}/leave.md" in documents(keeper)

    keeper.add("by-hand.md", "# By hand\n")
    source = read(keeper, objects.url, prune=True).source
    assert (counts(source), source.fetched_bytes) == ((3, 0, 2, 1, 1), 0)
    assert documents(keeper) == {f"{objects.url}/quay/mooring.md", f"{objects.url}/picture.md", "by-hand.md"}


def test_one_object_may_be_named(keeper, objects):
    objects.put("a/one.md", "# One\n")
    assert counts(read(keeper, f"{objects.url}/a/one.md").source) == (1, 1, 0, 0, 0)
    nothing = read(keeper, f"{objects.url}/a/two.md").source
    assert (nothing.state, nothing.found) == (pb.SOURCE_STATE_FAILED, 0)
    assert "bucket or object" in nothing.reason


def test_a_bucket_that_is_not_there_or_not_open_is_refused(keeper, objects, reading):
    missing = read(keeper, f"s3://b{uuid.uuid4().hex}/trivium").source
    assert missing.state == pb.SOURCE_STATE_FAILED
    for uri in (
        "s3://other/trivium",
        objects.url.removesuffix("/trivium"),
        objects.url + "-other",
        objects.url + "/../other",
        "s3://b.example#/trivium",
        "s3://",
    ):
        with refused("SOURCE_NOT_ALLOWED"):
            add(keeper, uri)
    foreign = reading.stack.tenant(f"u-{uuid.uuid4().hex[:8]}")
    outsider = Reader(reading.api(reading.stack.tenant_key(foreign)), foreign)
    outsider.create(outsider.collection)
    with refused("SOURCE_NOT_ALLOWED") as failures:
        add(outsider, objects.url)
    assert "TRIVIUM_RETRIEVER_BUCKETS" in failures[0].message


def test_a_bucket_that_is_away_is_waited_for_and_said(stack, embedder_address, tmp_path, site, s3):
    environment = settings(site, s3)
    grant = json.loads(environment["TRIVIUM_RETRIEVER_BUCKETS"])[0] | {"endpoint": "http://127.0.0.1:9"}
    environment["TRIVIUM_RETRIEVER_BUCKETS"] = json.dumps([grant])
    library = Library(stack, tmp_path / "library", embedder_address, environment)
    try:
        reader = library.newcomer()
        source = add(reader, "s3://bucket/trivium").source

        def waits():
            found = reader.api.GetSource(pb.GetSourceRequest(source=source)).source
            return "does not answer" in found.reason

        eventually(waits, "it says what it waits for", 60)
    finally:
        library.close()


def test_after_a_kill_a_reading_goes_on_and_fetches_nothing_twice(stack, embedder_address, tmp_path, site, s3, objects):
    library = Library(stack, tmp_path / "library", embedder_address, settings(site, s3))
    try:
        many = 60
        for number in range(many):
            objects.put(f"{number:03}.md", f"# Section {number}\n\nSection {number} costs {number * 7} crowns.\n")

        def killed_in_it():
            reader = library.newcomer()
            source = add(reader, objects.url).source

            def begun():
                return reader.api.GetSource(pb.GetSourceRequest(source=source)).source.stored > 3

            eventually(begun, "some objects are stored")
            library.restart()
            answer = ended(reader, source)
            found, stored, unchanged, failed, _ = counts(answer.source)
            assert (found, stored + unchanged, failed) == (many, many, 0)
            reader.settled()
            assert len(documents(reader)) == many
            assert reader.statistics().vectors_computed == reader.statistics().chunks == many
            return unchanged > 3

        # On a machine that stalls a reading may be over when the kill comes.
        times = next((times for times in range(1, 6) if killed_in_it()), 0)
        assert times
        # Neither what was written down nor what was logged holds the key.
        secret = s3.environment["AWS_SECRET_ACCESS_KEY"]
        kept = b"".join(file.read_bytes() for file in (tmp_path / "library" / "retriever").glob("retriever.db*"))
        assert secret not in library.process.log()
        assert secret.encode() not in kept
        with closing(sqlite3.connect(tmp_path / "library" / "retriever" / "retriever.db")) as catalog:
            assert catalog.execute("SELECT count(*) FROM source_objects").fetchone() == (times * many,)
    finally:
        library.close()


def test_a_setting_that_cannot_be_used_stops_the_start_and_does_not_repeat_a_key(stack, tmp_path, site, s3):
    broken = json.dumps([{"bucket": "b", "tenants": ["*"], "secret_access_key": "not-to-be-told", "endpont": ""}])
    environment = settings(site, s3) | {"TRIVIUM_RETRIEVER_BUCKETS": broken}
    with pytest.raises(AssertionError, match="TRIVIUM_RETRIEVER_BUCKETS") as died:
        Library(stack, tmp_path / "library", "127.0.0.1:9", environment)
    assert "endpont" in str(died.value)
    assert "not-to-be-told" not in str(died.value)
