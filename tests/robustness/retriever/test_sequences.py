"""After any sequence of add, update, delete, rename and kill the index is a fresh build's, and only new text was embedded.

A failure prints the shortest sequence that shows it.  ``TRIVIUM_SEQUENCES_SEED`` gives other sequences.
"""

import json
import os
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from services.retriever.index.places import Server
from tests.harness.plugin_sampling import sample
from tests.robustness.retriever.kinds import kind_at
from tests.robustness.retriever.lives import Life, Lives
from tests.robustness.retriever.sequences import Put, Sequence, Shelf, drawn, encoded, shorter

SEED = int(os.environ.get("TRIVIUM_SEQUENCES_SEED", "8"))
WORKERS = 2
# How many operations a sequence has at most, and by which step its lives die.  Over a server only the steps of the index
# count: few lives are led there, so each is to die in one of its changes.
EMBEDDED = (12, 100)
ON_SERVER = (8, 12)


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    """The process that all lives are forked from."""
    running = Lives()
    yield running
    running.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: what SIGKILL leaves, unlike a power cut, does not depend on the disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


class Sequences:
    """Leads the lives of sequences in folders of their own."""

    def __init__(self, lives: Lives, folder: Path, server: Server | None) -> None:
        self._lives = lives
        self._folder = folder
        self._server = server
        # Texts that were asked for in a life that ended before they could be kept.
        self.lost: Counter[str] = Counter()
        self.deaths = 0

    def grown(self, sequence: Sequence) -> dict[str, object]:
        """The picture at the end of a sequence with its kills."""
        folder = self._emptied("grown")
        self.lost.clear()
        for kill_at in (*sequence.kills, 0):
            before = len(asked(folder))
            status = self._lives.live(Life(folder, encoded(sequence), kill_at, self._server))
            if status == 0:
                break
            assert status == -9, f"a life ended with {status}"
            self.deaths += 1
            self.lost.update(_lost(folder, before))
        return _picture(folder)

    def fresh(self, documents: list[Put]) -> dict[str, object]:
        """The picture of these documents in an empty catalog."""
        folder = self._emptied("fresh")
        status = self._lives.live(Life(folder, encoded(Sequence(tuple(documents), ())), 0, self._server))
        assert status == 0, f"a life ended with {status}"
        return _picture(folder)

    @property
    def asked(self) -> Counter[str]:
        """How often the embedder was asked for each text in the sequence."""
        return Counter(digest for request in asked(self._folder / "grown") for digest in request)

    def _emptied(self, name: str) -> Path:
        folder = self._folder / name
        kind_at(self._server).forgotten(folder)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def asked(folder: Path) -> list[list[str]]:
    """The requests to the embedder so far."""
    log = folder / "asked"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _lost(folder: Path, before: int) -> list[str]:
    """What the life that has just ended asked for last, one request a worker, and had not kept."""
    last = [digest for request in asked(folder)[before:][-WORKERS:] for digest in request]
    with closing(sqlite3.connect(folder / "catalog.db", timeout=30)) as catalog:
        tables = catalog.execute("SELECT count(*) FROM sqlite_master WHERE name = 'vectors'").fetchone()[0]
        kept = {digest.hex() for (digest,) in catalog.execute("SELECT text_digest FROM vectors")} if tables else set()
    return [digest for digest in last if digest not in kept]


def _picture(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "picture.json").read_text())
    return found


def holds(sequences: Sequences, sequence: Sequence, *, exactly: bool) -> None:
    """The promise: a fresh build's picture, nothing left behind, and only what was new embedded, and once."""
    shelf = Shelf.after(sequence)
    with ThreadPoolExecutor(1) as beside:
        fresh = beside.submit(sequences.fresh, list(shelf.documents.values()))
        grown = sequences.grown(sequence)
    assert grown == fresh.result()
    assert grown["left behind"] == [0, 0, 0]
    often = {text: times for text, times in sequences.asked.items() if times > shelf.arrivals[text]}
    assert all(times <= shelf.arrivals[text] + sequences.lost[text] for text, times in often.items()), often
    if exactly:
        seldom = {text for text, times in shelf.arrivals.items() if sequences.asked[text] < times}
        assert not seldom


def check(sequences: Sequences, sequence: Sequence) -> None:
    """Check the promise for a sequence; every second one waits after each operation."""
    if len(sequence.operations) % 2:
        holds(sequences, sequence, exactly=False)
    else:
        holds(sequences, sequence.patient, exactly=True)


def shortest(sequences: Sequences, failed: Sequence) -> Sequence:
    """Return what is left of a sequence that fails when nothing more can be left out of it."""
    for sequence in shorter(failed):
        try:
            check(sequences, sequence)
        except AssertionError:
            return shortest(sequences, sequence)
    return failed


def run(
    lives: Lives,
    folder: Path,
    count: int,
    server: Server | None = None,
    *,
    every: int = 1,
    block: int = 0,
) -> float:
    """Draw ``count`` sequences and lead the lives of one in ``every``; return how many deaths one has on average.

    Blocks have different sequences.
    """
    sequences = Sequences(lives, folder, server)
    chosen = sample(range(count), every)
    for number in chosen:
        chance = random.Random(f"{SEED} {block} {number}")
        sequence = drawn(chance, *(ON_SERVER if server else EMBEDDED))
        try:
            check(sequences, sequence)
        except AssertionError as error:
            raise AssertionError(f"sequence {number} of block {block}: {shortest(sequences, sequence)}") from error
    return sequences.deaths / len(chosen)


@pytest.mark.timeout(1800)
def test_an_index_after_any_of_100_sequences_with_kills_is_a_fresh_ones_and_only_new_text_was_embedded(lives, folder):
    assert run(lives, folder, 100, every=7) > 0.3


@pytest.mark.timeout(1800)
def test_an_index_on_weaviate_after_any_of_10_sequences_with_kills_is_a_fresh_ones(lives, folder, weaviate):
    assert run(lives, folder, 10, weaviate.server, every=3) > 0.3


# In blocks, so that a long run can be interrupted and taken up again.
@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(1, 11))
def test_an_index_after_any_of_2000_sequences_with_kills_is_a_fresh_ones(lives, folder, block):
    assert run(lives, folder, 200, block=block) > 0.3


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("block", range(1, 6))
def test_an_index_on_weaviate_after_any_of_200_sequences_with_kills_is_a_fresh_ones(lives, folder, weaviate, block):
    assert run(lives, folder, 40, weaviate.server, block=block) > 0.3
