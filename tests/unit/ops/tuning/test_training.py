"""What the recipe does to weights: of both kinds of model, with encoders of a few thousand weights."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.chassis import models
from services.embedder import cross_encoder, model
from services.embedder.batching import Batch, Product
from services.ops.tuning import bases, conduct, folder
from services.ops.tuning.conduct import Settings
from services.ops.tuning.embedder import TunedEmbedder
from services.ops.tuning.mining import Lesson
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.reranker import TunedReranker
from services.ops.tuning.role import Role
from tests.tiny_encoder import build_cross_encoder, build_encoder

SETTINGS = Settings(epochs=2, batch_size=4, learning_rate=3e-3, negatives=2, seed=3, threads=1)
# Until all is learned.
LONG = replace(SETTINGS, epochs=60)
# What means the same is said in other words, which random weights cannot know.
MEANINGS = {
    "fog horn": "sounds twice", "ticket": "fare", "ferry": "boat crossing", "lamp": "paper", "river": "stone",
    "crown": "price", "april": "winter", "paint": "ordered",
}  # fmt: skip


def lessons() -> list[Lesson]:
    return [
        Lesson(name, meaning, ("leaves march", "long nine"), frozenset({meaning})) for name, meaning in MEANINGS.items()
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bases.Base:
    return bases.opened(f"file:{build_encoder(tmp_path_factory.mktemp('base') / 'tiny')}")


@pytest.fixture(scope="module")
def embedder(base: bases.Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(base, Role.EMBEDDER, tmp_path_factory.mktemp("embedder"), LONG)


@pytest.fixture(scope="module")
def reranker(base: bases.Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(base, Role.RERANKER, tmp_path_factory.mktemp("reranker"), replace(LONG, epochs=20))


KINDS: dict[Role, Any] = {Role.EMBEDDER: TunedEmbedder, Role.RERANKER: TunedReranker}


def trained(base: bases.Base, role: Role, scratch: Path, settings: Settings = SETTINGS) -> Path:
    """Train in folders of its own; where the model was written."""
    workspace = bases.workspace(base, role, scratch / "base")
    with conduct.reproducible(settings):
        made = KINDS[role](workspace, base.tokens(role))
        made.train(lessons(), settings, scratch / "trainer", lambda *_: None)
        return folder.write(made.transformer, base, role, scratch / "model")


def digest(path: Path) -> str:
    return hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()


def served_vectors(path: Path, texts: list[str]) -> np.ndarray:
    """As the embedder computes them."""
    resolved = models.resolve(f"file:{path}")
    encoder = model.load(resolved, dtype="float32", threads=1)
    ids = model.FastTokenizer(path).ids(texts)
    return np.stack(encoder.compute(Batch(Product.POOLED, tuple(ids))))


def served_scores(path: Path, question: str, passages: list[str]) -> list[float]:
    resolved = models.resolve(f"file:{path}")
    encoder = cross_encoder.load(resolved, cross_encoder.described(resolved), dtype="float32", threads=1)
    pairs = cross_encoder.PairTokenizer(path).pairs(question, passages, encoder.facts.max_tokens)
    rows = encoder.compute(Batch(Product.SCORE, tuple(pairs)))
    return [float(row[0]) for row in rows]


@pytest.mark.parametrize("role", Role)
def test_two_trainings_give_the_same_weights_and_another_seed_others(base, role, tmp_path):
    first = trained(base, role, tmp_path / "first")
    # Whatever else was drawn in the process meanwhile.
    torch.rand(7)
    second = trained(base, role, tmp_path / "second")
    assert digest(first) == digest(second)
    assert digest(trained(base, role, tmp_path / "other", replace(SETTINGS, seed=4))) != digest(first)


def apart(folder: Path) -> float:
    """By how much questions are nearer to their own answers than to those of others, in the mean."""
    questions, answers = [it.question for it in lessons()], [it.positive for it in lessons()]
    cosines = served_vectors(folder, questions) @ served_vectors(folder, answers).T
    own = np.eye(len(answers), dtype=bool)
    return float(cosines[own].mean() - cosines[~own].mean())


def test_an_embedder_learns_what_means_the_same(base, embedder):
    assert apart(embedder) > apart(base.folder) + 0.1


def test_a_reranker_learns_which_passage_answers(reranker):
    best = [np.argmax(served_scores(reranker, it.question, [it.positive, *it.negatives])) for it in lessons()]
    assert best == [0] * len(best)


def test_the_library_computes_what_the_embedder_serves(embedder, reranker, tmp_path):
    question, passages = "lamp", ["paper", "stone river", "the long winter"]
    here = TunedEmbedder(again(embedder, Role.EMBEDDER, tmp_path / "e"), 48).vectors([question, *passages])
    assert np.allclose(here, served_vectors(embedder, [question, *passages]), atol=1e-5)
    scores = TunedReranker(again(reranker, Role.RERANKER, tmp_path / "r"), 48).scores(question, passages)
    assert np.allclose(scores, served_scores(reranker, question, passages), atol=1e-5)


def again(written: Path, role: Role, workspace: Path) -> Path:
    return bases.workspace(bases.opened(f"file:{written}"), role, workspace)


def test_what_is_written_is_flat_and_has_its_length(base, embedder, reranker):
    _require_flat(embedder, Role.EMBEDDER)
    _require_flat(reranker, Role.RERANKER)
    assert model.described(models.resolve(f"file:{embedder}")).max_tokens == base.max_tokens
    assert cross_encoder.described(models.resolve(f"file:{reranker}")).max_tokens == base.pair_tokens


def _require_flat(written: Path, role: Role) -> None:
    names = {path.name for path in written.iterdir()}
    assert all(path.is_file() for path in written.iterdir())
    assert names == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        *(["sentence_bert_config.json"] if role is Role.EMBEDDER else []),
    }  # fmt: skip
    assert "tmp" not in "".join(path.read_text() for path in written.glob("*.json"))


def test_a_base_is_what_its_configuration_says(base, tmp_path):
    assert base.role is Role.EMBEDDER
    reader = bases.opened(f"file:{build_cross_encoder(tmp_path / 'pairs')}")
    assert reader.role is Role.RERANKER


def test_a_base_that_the_embedder_would_not_serve_is_refused(tmp_path):
    with pytest.raises(Untrainable, match="mean"):
        bases.opened(f"file:{build_encoder(tmp_path / 'tiny', mean=False)}")
    with pytest.raises(Untrainable, match="wheel:, file: or hf:"):
        bases.opened("somewhere")
    (build_encoder(tmp_path / "wordless") / "tokenizer.json").unlink()
    with pytest.raises(Untrainable, match=r"wordless.* tokenizer\.json"):
        bases.opened(f"file:{tmp_path / 'wordless'}")


def test_torch_is_as_it_was_before():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    with conduct.reproducible(SETTINGS):
        assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == (1, True)
        torch.rand(3)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
