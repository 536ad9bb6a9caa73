"""A cross-encoder's score is what transformers computes of the pair, through the same queue as everything else."""

import asyncio

import numpy as np
import pytest

from services.chassis import models
from services.chassis.errors import Failure, Reason
from services.embedder import cross_encoder
from services.embedder.batching import Batch, Batcher, Product
from services.embedder.embedding import Asking
from services.embedder.reranking import PairModel, Reranker
from services.embedder.shelf import Place, Shelf
from tests.tiny_encoder import build_cross_encoder

ADA = Asking("ada")
QUERY = "how much is a single crossing"
PASSAGES = [
    "a single crossing costs six crowns",
    "paint is ordered in march",
    "the [SEP] fog horn sounds twice",
    "boat",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> models.ResolvedModel:
    made = build_cross_encoder(tmp_path_factory.mktemp("models") / "cross")
    return models.resolve(f"file:{made}", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def encoder(folder) -> cross_encoder.CrossEncoder:
    return cross_encoder.load(folder, cross_encoder.described(folder), dtype="float32", threads=1)


@pytest.fixture
async def reranker(encoder, folder, embedder):
    async def compute(batch):
        return await asyncio.to_thread(encoder.compute, batch)

    batcher = Batcher(compute, batch_tokens=256, queue_tokens=10_000)
    running = asyncio.create_task(batcher.run())
    model = PairModel(encoder.facts, cross_encoder.PairTokenizer(folder.path), batcher)

    async def nothing():
        raise AssertionError("it is loaded already")

    yield Reranker(
        embedder.encoders, Shelf((Place("cross", nothing, nothing, encoder.facts, None, model),)), asyncio.to_thread
    )
    running.cancel()


def plain(folder, query, passages):
    """The scores as transformers alone computes them."""
    import torch
    from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder.path / "tokenizer.json"), pad_token="[PAD]")
    module = AutoModelForSequenceClassification.from_pretrained(folder.path).eval()
    inputs = tokenizer([query] * len(passages), passages, padding=True, return_token_type_ids=True, return_tensors="pt")
    with torch.inference_mode():
        return torch.sigmoid(module(**inputs).logits)[:, 0].numpy()


async def test_scores_are_those_of_the_plain_library_and_the_digest_is_the_rerankers(reranker, folder):
    ranked = await reranker.rank(ADA, "cross", QUERY, PASSAGES)
    assert np.allclose(ranked.scores, plain(folder, QUERY, PASSAGES), atol=1e-5)
    assert max(ranked.scores) - min(ranked.scores) > 1e-3
    assert ranked.facts.digest == folder.digest
    assert ranked.truncated == (False,) * 4


async def test_which_text_asks_and_which_answers_is_told_to_the_model(reranker):
    one = await reranker.rank(ADA, "cross", QUERY, [PASSAGES[0]])
    other = await reranker.rank(ADA, "cross", PASSAGES[0], [QUERY])
    assert one.scores != other.scores


async def test_a_pair_scores_the_same_bits_alone_and_among_others(reranker):
    together = await reranker.rank(ADA, "cross", QUERY, PASSAGES * 10)
    alone = [(await reranker.rank(ADA, "cross", QUERY, [passage])).scores[0] for passage in PASSAGES]
    assert list(together.scores) == alone * 10


async def test_a_passage_that_does_not_fit_is_cut_and_named_and_a_long_query_leaves_it_room(reranker):
    ranked = await reranker.rank(ADA, "cross", QUERY, ["boat", "boat ferry " * 100])
    assert ranked.truncated == (False, True)
    long = await reranker.rank(ADA, "cross", "what " * 500, ["boat", "fog"])
    assert len(set(long.scores)) == 2
    assert long.truncated == (False, False)


async def test_pairs_are_batched_by_length_within_the_budget_and_twins_computed_once(reranker):
    batcher = reranker.pairs.places[0].loaded.batcher
    await reranker.rank(ADA, "cross", QUERY, PASSAGES[:1] * 50)
    assert batcher.counters.batches == 1
    assert batcher.counters.shared == 49


async def test_an_embedding_model_named_ranks_by_its_token_vectors_and_nobody_else_is_known(reranker):
    name = reranker.encoders.names()[0]
    assert (await reranker.rank(ADA, name, QUERY, PASSAGES)).facts.name == name
    with pytest.raises(Failure) as failed:
        await reranker.rank(ADA, "nobody", QUERY, PASSAGES)
    assert failed.value.reason is Reason.EMBEDDING_MODEL_NOT_FOUND
    assert f"{name}, cross" in failed.value.sentence


def test_a_classifier_of_several_labels_is_no_reranker(tmp_path):
    made = build_cross_encoder(tmp_path / "several", labels=3)
    with pytest.raises(Failure) as failed:
        cross_encoder.described(models.resolve(f"file:{made}", cache=tmp_path / "cache"))
    assert "one label" in failed.value.sentence


def test_a_single_pair_is_padded_to_its_shape(encoder, folder):
    (ids,) = cross_encoder.PairTokenizer(folder.path).pairs(QUERY, ["boat"], 64)
    batch = Batch(Product.SCORE, (ids,))
    assert encoder.compute(batch)[0].shape == (1,)
