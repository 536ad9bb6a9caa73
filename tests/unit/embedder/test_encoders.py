"""What every encoder promises, whatever the model and whatever computes it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.embedder import model, openvino_encoder, precision
from services.embedder.batching import Batch, Product, padded_length
from services.embedder.config import EngineKind
from tests.tiny_encoder import build_encoder

TEXTS = [
    "boat",
    "How much is a single crossing?",
    "A single crossing costs six crowns.",
    "the fog horn sounds twice",
    *(f"the boat {n} leaves the river at {n % 9 + 1} in the long winter" for n in range(12)),
    "stone river lamp paper " * 8,
]
LEAST_COSINE = {"float32": 0.9999, "bfloat16": 0.999}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> models.ResolvedModel:
    folder = build_encoder(tmp_path_factory.mktemp("models") / "tiny")
    return models.resolve(f"file:{folder}", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", params=["default", "tiny"])
def any_model(request, resolved, tiny):
    return resolved if request.param == "default" else tiny


@pytest.fixture(scope="module", params=EngineKind)
def engine(request):
    return request.param


def needs_openvino():
    # Not by importing it: that would be with its usage statistics.
    if not openvino_encoder.version():
        pytest.skip("the extra openvino is not installed: make setup")


def loaded(engine, resolved, dtype="float32") -> model.Encoder:
    if engine is EngineKind.OPENVINO:
        needs_openvino()
        return openvino_encoder.load(resolved, model.described(resolved), dtype=dtype, threads=1)
    return model.load(resolved, dtype=dtype, threads=1)


@pytest.fixture(scope="module")
def encoder(engine, any_model) -> model.Encoder:
    return loaded(engine, any_model)


@pytest.fixture(scope="module")
def sequences(any_model):
    return model.FastTokenizer(any_model.path).ids(TEXTS)


def alone(encoder, ids, product=Product.POOLED):
    return encoder.compute(Batch(product, (ids,)))[0]


@pytest.mark.parametrize("product", [Product.POOLED, Product.TOKENS])
def test_a_text_gets_the_same_bits_alone_and_among_others(encoder, sequences, product):
    companies: dict[int, list] = {}
    for ids in sequences:
        companies.setdefault(padded_length(len(ids)) if encoder.pads else 0, []).append(ids)
    for company in companies.values():
        together = encoder.compute(Batch(product, tuple(company)))
        assert all(np.array_equal(alone(encoder, ids, product), it) for ids, it in zip(company, together, strict=True))


def test_torch_pads_on_a_graphics_card_alone(tiny, monkeypatch):
    monkeypatch.setattr("torch.nn.Module.to", lambda module, *_: module)
    module, pad_id = model.torch_module(tiny, "float32")
    assert not model.TorchEncoder(model.described(tiny), module, pad_id).pads
    module, pad_id = model.torch_module(tiny, "float32")
    assert model.TorchEncoder(model.described(tiny), module, pad_id, "cuda").pads


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "XLMRoberta"])
def test_a_row_of_many_sequences_says_what_padded_ones_say(kind, tmp_path):
    """By transformers' own attention and masks, each sequence padded to more than it needs."""
    folder = build_encoder(tmp_path / kind, kind=kind)
    resolved = models.resolve(f"file:{folder}", cache=tmp_path / "cache")
    ids = model.FastTokenizer(folder).ids(TEXTS[:16])
    row = model.load(resolved, dtype="float32", threads=1).compute(Batch(Product.TOKENS, tuple(ids)))
    plain, pad_id = model.torch_module(resolved, "float32")
    with torch.inference_mode():
        for tokens, states in zip(ids, row, strict=True):
            padded = torch.tensor([[*tokens, *[pad_id] * 3]])
            hidden = plain(input_ids=padded, attention_mask=torch.tensor([[1] * len(tokens) + [0] * 3]))
            expected = torch.nn.functional.normalize(hidden.last_hidden_state[0, : len(tokens)], dim=-1)
            assert np.allclose(states, expected.numpy(), atol=1e-5)


def test_a_vector_has_the_announced_dimensions_and_length_one(encoder, sequences):
    for ids in sequences:
        vector = alone(encoder, ids)
        assert vector.dtype == np.float32
        assert vector.shape == (encoder.facts.dimensions,)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_token_vectors_are_one_a_token_of_length_one_and_stay_when_the_next_batch_comes(encoder, sequences):
    states = alone(encoder, sequences[1], Product.TOKENS)
    kept = states.copy()
    alone(encoder, sequences[2], Product.TOKENS)
    assert states.shape == (len(sequences[1]), encoder.facts.dimensions)
    assert np.allclose(np.linalg.norm(states, axis=1), 1, atol=1e-5)
    assert np.array_equal(states, kept)


def test_padding_changes_nothing_but_the_last_digits(encoder, sequences):
    ids = sequences[0]
    longer, _ = encoder.compute(Batch(Product.POOLED, (ids, sequences[-1])))
    assert float(longer @ alone(encoder, ids)) > 0.99999


@pytest.mark.parametrize("dtype", LEAST_COSINE)
def test_every_engine_and_element_type_agrees_with_torch_in_float32(engine, any_model, sequences, dtype):
    if dtype == "bfloat16" and not precision.processor_has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16: run it on one that does")
    exact, other = model.load(any_model, dtype="float32", threads=1), loaded(engine, any_model, dtype)
    cosines = [float(alone(exact, ids) @ alone(other, ids)) for ids in sequences]
    assert min(cosines) >= LEAST_COSINE[dtype]
    assert exact.facts.digest == other.facts.digest
    assert (exact.facts.build == other.facts.build) == (engine is EngineKind.TORCH and dtype == "float32")


def test_a_folder_is_described_without_loading_it(tiny):
    facts = model.described(tiny, name="small", max_tokens=20)
    assert (facts.name, facts.dimensions, facts.max_tokens, facts.compute_dtype) == ("small", 32, 20, "")
    assert model.described(tiny, max_tokens=500).max_tokens == 48


def test_a_folder_that_pools_otherwise_is_refused(tmp_path):
    folder = build_encoder(tmp_path / "other", mean=False)
    with pytest.raises(Failure) as failed:
        model.described(models.resolve(f"file:{folder}", cache=tmp_path / "cache"))
    assert failed.value.reason is Reason.MODEL_SOURCE_INVALID
    assert "mean" in failed.value.sentence


def test_without_its_extra_openvino_is_missed_with_what_to_do(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(Failure) as failed:
        openvino_encoder.load(tiny, model.described(tiny), dtype="float32", threads=1)
    assert failed.value.reason is Reason.EMBEDDING_ENGINE_MISSING
    assert "TRIVIUM_EMBEDDER_ENGINE=torch" in failed.value.sentence


def test_openvino_is_imported_without_its_usage_statistics(tmp_path):
    """In a process of its own: whatever else was imported here before."""
    needs_openvino()
    code = (
        "import sys; from services.embedder import openvino_encoder as it; it._imported();"
        "from openvino.tools.ovc import telemetry_utils as used; print(used.tm.__name__, it._STATISTICS in sys.modules,"
        "sys.modules[it._STATISTICS])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "True", "None"]
    assert not list(tmp_path.iterdir())
