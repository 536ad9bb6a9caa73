"""The budget of a batch is tried once, remembered for this machine alone, and a lost memory costs a second or two."""

import numpy as np
import pytest

from services.embedder import probing
from services.embedder.model import EncoderFacts


class Timed:
    """An encoder that takes the time it is told, on a clock of its own."""

    def __init__(self, seconds_a_token, max_tokens=256, *, pads=True):
        self.pads = pads
        self.facts = EncoderFacts("timed", "sha256:0", 4, max_tokens, vocabulary=50)
        self.now = 0.0
        self.budgets = []
        self._seconds = seconds_a_token

    def compute(self, batch):
        tokens = sum(batch.length if self.pads else len(ids) for ids in batch.sequences)
        assert max(map(max, batch.sequences)) < 50
        assert len({len(ids) for ids in batch.sequences}) == 1 or not self.pads
        assert all(len(ids) <= self.facts.max_tokens for ids in batch.sequences)
        self.budgets.append(tokens)
        self.now += tokens * self._seconds(tokens)
        return [np.zeros(4, dtype=np.float32) for _ in batch.sequences]

    def fastest(self, seconds=1.0):
        return probing.fastest_budget(self, 2, seconds=seconds, clock=lambda: self.now)


@pytest.mark.parametrize("pads", [True, False])
@pytest.mark.parametrize("best", probing.BUDGETS)
def test_the_budget_with_the_least_time_a_token_is_found(best, pads):
    timed = Timed(lambda tokens: 1e-6 * (1 + abs(np.log2(tokens / best))), pads=pads)
    assert timed.fastest() == best
    assert all(tokens <= budget for tokens, budget in zip(sorted(set(timed.budgets)), probing.BUDGETS, strict=True))


def test_a_run_that_was_disturbed_decides_nothing():
    runs = iter(range(1000))
    timed = Timed(lambda tokens: 1e-6 * (1 + abs(np.log2(tokens / 1024))) * (9 if next(runs) % 3 == 1 else 1))
    assert timed.fastest() == 1024


def test_of_two_that_are_as_fast_the_smaller_is_taken():
    assert Timed(lambda tokens: 1e-6 if tokens > 600 else 2e-6).fastest() == 1024


def test_a_slow_processor_is_not_tried_for_much_longer_than_it_may_be():
    slow = Timed(lambda tokens: 1e-3)
    assert slow.fastest() in probing.BUDGETS
    assert slow.now < 3


def test_a_model_of_short_texts_is_tried_with_short_ones():
    assert Timed(lambda tokens: 1e-6, max_tokens=40).fastest() in probing.BUDGETS


def test_a_finding_is_remembered_for_this_model_and_machine(tmp_path):
    path = tmp_path / "embedder" / "findings.json"
    here, there = probing.machine("sha256:1", "torch", 2), probing.machine("sha256:1", "torch", 4)
    assert probing.recall(path, here) is None
    probing.remember(path, here, probing.Finding("bfloat16", 2048))
    probing.remember(path, there, probing.Finding("float32", 512))
    assert probing.recall(path, here) == probing.Finding("bfloat16", 2048)
    assert probing.recall(path, there) == probing.Finding("float32", 512)
    assert probing.recall(path, probing.machine("sha256:2", "torch", 2)) is None


@pytest.mark.parametrize("content", ["", "[]", "{", '{"here": 1}', '{"here": {"dtype": "int4", "batch_tokens": 512}}'])
def test_a_memory_that_cannot_be_read_is_no_memory(tmp_path, content):
    path = tmp_path / "findings.json"
    path.write_text(content)
    assert probing.recall(path, "here") is None
    probing.remember(path, "here", probing.Finding("float32", 1024))
    assert probing.recall(path, "here") == probing.Finding("float32", 1024)


def test_a_disk_that_takes_nothing_costs_no_start(tmp_path):
    (tmp_path / "file").write_text("")
    probing.remember(tmp_path / "file" / "findings.json", "here", probing.Finding("float32", 1024))
