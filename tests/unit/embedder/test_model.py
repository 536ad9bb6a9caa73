import random

import numpy as np
import pytest

from services.embedder import model, precision
from services.embedder.batching import Batch, Product
from services.embedder.config import Precision
from tests.harness.plugin_sampling import is_whole, offset

WORDS = [
    "river",
    "stone",
    "ferry",
    "lamp",
    "winter",
    "crown",
    "paper",
    "engine",
    "harbour",
    "letter",
    "seven",
    "under",
    "bright",
    "rope",
    "tide",
    "fog",
]


def texts(count: int, seed: int = 7) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randint(1, 60))) for _ in range(count)]


def alone(encoder, ids):
    return encoder.compute(Batch(Product.POOLED, (ids,)))[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_text_gets_the_same_bits_whatever_its_batch_neighbours(resolved, tokenizer, dtype):
    encoder = model.load(resolved, dtype=dtype, threads=1)
    count = 96 if is_whole() else 32
    sequences = tokenizer.ids(texts(count, seed=offset()))
    expected = [alone(encoder, ids) for ids in sequences]
    for company in (1, 7, 24, count):
        for first in range(0, count, company):
            together = encoder.compute(Batch(Product.POOLED, tuple(sequences[first : first + company])))
            assert np.array_equal(np.stack(together), np.stack(expected[first : first + company]))


def test_vectors_have_length_one_and_the_announced_dimensions(exact, tokenizer):
    vector = alone(exact, tokenizer.ids(["The ferry leaves at nine."])[0])
    assert vector.shape == (exact.facts.dimensions,) == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_near_meanings_lie_nearer_than_far_ones(exact, tokenizer):
    ids = tokenizer.ids(["How much is a ticket?", "The price of a fare", "Paint dries slowly in the cold"])
    ask, near, far = (alone(exact, each) for each in ids)
    assert ask @ near > ask @ far + 0.2


def test_the_model_reports_the_length_it_was_trained_at(exact):
    assert exact.facts.max_tokens == 256
    assert exact.facts.digest.startswith("sha256:")


def test_a_processor_without_the_flag_computes_in_float32(exact):
    chosen, trial = precision.choose(Precision.AUTO, lambda dtype: exact, has_bfloat16=False)
    assert chosen.facts.compute_dtype == "float32"
    assert trial is None


def test_the_flag_is_read_from_the_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("model name\t: X\nflags\t\t: sse2 avx512f avx512_bf16\n")
    assert precision.processor_has_bfloat16(cpuinfo)
    cpuinfo.write_text("flags\t\t: sse2 avx512f\n")
    assert not precision.processor_has_bfloat16(cpuinfo)
    assert not precision.processor_has_bfloat16(tmp_path / "none")


def test_bfloat16_is_taken_only_when_right_and_faster():
    assert precision.Trial(cosine=0.9999, gain=2.0).passed
    assert not precision.Trial(cosine=0.9999, gain=1.0).passed
    assert not precision.Trial(cosine=0.99, gain=3.0).passed


def test_bfloat16_stays_within_the_trial_of_float32(resolved, exact):
    fast = model.load(resolved, dtype="bfloat16", threads=1)
    assert precision.compare(exact, fast).cosine >= 0.999
