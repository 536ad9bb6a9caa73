"""Vectors on disk: the bits that were computed, for the tenant that had them computed, or nothing."""

import asyncio
import shutil
from dataclasses import replace

import numpy as np
import pytest

from services.embedder.cache import Space, VectorCache
from services.embedder.cache_file import Kept, VectorFile
from services.embedder.embedding import Asking, Use, Wanted
from services.embedder.serving import cache_secret

ADA, BEN = Asking("ada"), Asking("ben")
TEXTS = tuple(f"Boat {n} carries {n * 3} passengers" for n in range(12))


def wanted(*texts, use=Use.DOCUMENT):
    return Wanted("", texts, use)


def kept(number: int) -> Kept:
    return Kept(np.random.default_rng(number).standard_normal(384, dtype=np.float32), number)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def same(one: Kept, other: Kept) -> bool:
    return one.tokens == other.tokens and np.array_equal(one.vector, other.vector)


@pytest.fixture
def reopened(embedder, vector_file):
    """The same embedder with nothing in memory: what it has comes from the file."""

    def forget():
        embedder.cache._recent.clear()
        embedder.cache._recent_held = 0
        vector_file.close()

    return forget


async def test_what_was_embedded_comes_back_from_disk_with_the_same_bits_counts_and_truncation(
    embedder, reopened, batcher
):
    texts = (*TEXTS, "long " * 400)
    first = await embedder.embed(ADA, wanted(*texts))
    await embedder.cache.flush()
    reopened()
    computed = batcher.counters.tokens
    again = await embedder.embed(ADA, wanted(*texts))
    assert np.array_equal(first.vectors, again.vectors)
    assert (first.token_counts, first.truncated) == (again.token_counts, again.truncated)
    assert batcher.counters.tokens == computed


async def test_a_kept_query_does_not_wait_in_the_queue(embedder, batcher):
    first = await embedder.embed(ADA, wanted("How much is a ticket?", use=Use.QUERY))
    batcher.waiting_tokens = batcher.queue_tokens
    again = await embedder.embed(ADA, wanted("How much is a ticket?", use=Use.QUERY))
    assert np.array_equal(first.vectors, again.vectors)


async def test_another_tenant_pays_as_if_nobody_had_asked(embedder, batcher):
    costs = []
    for asking in (ADA, BEN):
        before = batcher.counters.tokens
        await embedder.embed(asking, wanted(*TEXTS))
        await embedder.cache.flush()
        costs.append(batcher.counters.tokens - before)
    assert costs[0] == costs[1] > 0
    assert embedder.cache.counters.hits == 0


async def test_a_text_is_kept_apart_by_role_and_by_what_computes(embedder, vector_file):
    spaces = [Space("ada", "one", "query"), Space("ada", "one", "document"), Space("ada", "two", "document")]
    keys = [(await embedder.cache.find(space, ["a"]))[0][0] for space in [*spaces, Space("ben", "two", "document")]]
    assert len(set(keys)) == 4
    assert keys[0] != (await VectorCache(b"t" * 32, None, asyncio.to_thread).find(spaces[0], ["a"]))[0][0]


async def test_identical_texts_are_computed_once_within_a_request_in_flight_and_later(embedder, batcher):
    asked = [embedder.embed(ADA, wanted(*TEXTS, *TEXTS)) for _ in range(4)]
    answers = await asyncio.gather(*asked)
    await embedder.embed(ADA, wanted(*TEXTS))
    counted = sum((await embedder.count(ADA, "", TEXTS)).token_counts)
    assert batcher.counters.tokens == counted
    assert all(np.array_equal(answer.vectors, answers[0].vectors) for answer in answers)


async def test_nothing_is_left_of_texts_that_are_not_to_be_stored(embedder, batcher, vector_file):
    secret = replace(wanted("a secret", "another"), no_store=True)
    twice = await asyncio.gather(embedder.embed(ADA, secret), embedder.embed(ADA, secret))
    once = batcher.counters.tokens
    await embedder.cache.flush()
    keys, found = await embedder.cache.find(
        Space("ada", embedder.encoders.places[0].facts.build, "document"), secret.texts
    )
    assert not found
    assert not vector_file.find(keys)
    # What others have stored is used all the same.
    assert np.array_equal((await embedder.embed(ADA, wanted(*secret.texts))).vectors, twice[0].vectors)
    assert batcher.counters.tokens == 2 * once
    await embedder.embed(ADA, secret)
    assert batcher.counters.tokens == 2 * once


def test_a_file_stays_within_its_bytes_and_what_was_used_longest_ago_goes_first(tmp_path):
    now = 0.0
    file = VectorFile(tmp_path / "vectors.db", b"s" * 32, 2_000_000, clock=lambda: now)
    for first in range(0, 4000, 50):
        now += 100
        file.keep({key(n): kept(n) for n in range(first, first + 50)})
        assert same(file.find([key(0)])[key(0)], kept(0))
        assert file.counters.bytes <= 2_000_000
    assert not file.find([key(n) for n in range(1, 500)])
    assert len(file.find([key(n) for n in range(3950, 4000)])) == 50
    assert file.counters.evicted > 1000
    assert file.path.stat().st_size <= 2_000_000 + 50 * 4096
    file.close()


@pytest.mark.parametrize("damage", ["header", "middle", "empty", "truncated", "vector"])
def test_a_damaged_file_is_thrown_away_and_never_believed(tmp_path, damage):
    file = VectorFile(tmp_path / "vectors.db", b"s" * 32, 10**9)
    written = {key(n): kept(n) for n in range(300)}
    file.keep(written)
    file.close()
    content = bytearray(file.path.read_bytes())
    if damage == "header":
        content[:100] = b"x" * 100
    elif damage == "middle":
        content[4096 : len(content) // 2] = b"\x07" * (len(content) // 2 - 4096)
    elif damage == "vector":
        at = content.index(written[key(7)].vector.tobytes()[:64])
        content[at + 5] ^= 1
    left = {"empty": 0, "truncated": len(content) // 2}.get(damage, len(content))
    file.path.write_bytes(content[:left])
    for _ in range(2):
        for found_key, found in file.find(list(written)).items():
            assert same(found, written[found_key])
    file.keep(written)
    assert len(file.find(list(written))) == 300
    assert file.counters.discarded == (0 if damage == "empty" else 1)
    file.close()


async def test_a_full_disk_fails_no_request(embedder, vector_file):
    vector_file.open()
    vector_file._connection.execute("PRAGMA max_page_count = 8")
    texts = tuple(f"{text} to the stage at {n}" for n in range(8) for text in TEXTS)
    embedded = await embedder.embed(ADA, wanted(*texts))
    await embedder.cache.flush()
    assert embedded.vectors.shape == (96, 384)
    assert vector_file.counters.errors == 1
    again = await embedder.embed(ADA, wanted(*texts))
    assert np.array_equal(embedded.vectors, again.vectors)


async def test_a_folder_that_cannot_be_written_fails_no_request(embedder, tmp_path):
    (tmp_path / "occupied").write_text("a file where a folder should be")
    embedder.cache.file.path = tmp_path / "occupied" / "vectors.db"
    assert (await embedder.embed(ADA, wanted(*TEXTS))).vectors.shape == (12, 384)
    await embedder.cache.flush()
    assert embedder.cache.file.counters.errors


def test_a_file_of_another_version_is_made_anew(tmp_path):
    file = VectorFile(tmp_path / "vectors.db", b"s" * 32, 10**9)
    file.keep({key(1): kept(1)})
    file._ready().execute("PRAGMA user_version = 99")
    file.close()
    assert not file.find([key(1)])
    file.keep({key(1): kept(1)})
    assert len(file.find([key(1)])) == 1
    file.close()


def test_the_secret_is_made_once_and_belongs_to_the_owner_alone(tmp_path):
    made = cache_secret(tmp_path / "embedder")
    assert cache_secret(tmp_path / "embedder") == made
    assert (tmp_path / "embedder" / "cache.key").stat().st_mode & 0o077 == 0
    shutil.rmtree(tmp_path / "embedder")
    assert cache_secret(tmp_path / "embedder") != made


async def test_without_a_file_nothing_is_kept():
    cache = VectorCache(b"s" * 32, None, asyncio.to_thread)
    space = Space("ada", "build", "document")
    keys, _ = await cache.find(space, ["a"])
    cache.keep({keys[0]: kept(1)})
    assert (await cache.find(space, ["a"]))[1] == {}


async def test_what_the_disk_is_too_slow_for_is_not_hoarded(vector_file):
    cache = VectorCache(b"s" * 32, vector_file, asyncio.to_thread, recent_bytes=10_000, unwritten_bytes=10_000)
    cache.keep({key(n): kept(n) for n in range(100)})
    assert cache.counters.unwritten > 90
    await cache.flush()
    assert 0 < len(vector_file.find([key(n) for n in range(100)])) < 10
