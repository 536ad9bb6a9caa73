"""Several models in one embedder: each by its name or digest, loaded when named, and what was computed kept over a kill."""

import base64
import json
from contextlib import suppress

import grpc
import numpy as np
import openai
import pytest
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc

from tests.contract.embedder.test_embedding import matrix
from tests.harness.gateway import Gateway
from tests.stack import RECONNECTS, Api, Process, eventually, peer_settings, refused
from tests.tiny_encoder import DIMENSIONS, build_cross_encoder, build_encoder

TEXT = "How much is a single crossing?"
PASSAGES = ["a single crossing costs six crowns", "the fog horn sounds twice", "boat " * 100]


class Several:
    """An embedder whose default is a tiny model, with others on call."""

    def __init__(self, stack, folder):
        self.models = [
            {"uri": f"file:{build_encoder(folder / 'other', seed=9)}", "query_prefix": "boat ", "max_tokens": 20},
            {"uri": f"file:{folder / 'lost'}", "name": "lost"},
            {"uri": f"file:{folder / 'other'}", "name": "short", "shortens": True},
        ]
        self.process = Process(
            "embedder",
            folder,
            {
                **peer_settings(stack.access),
                "TRIVIUM_EMBEDDING_MODEL": f"file:{build_encoder(folder / 'tiny')}",
                "TRIVIUM_EMBEDDER_MODELS": json.dumps(self.models),
                "TRIVIUM_EMBEDDER_RERANKERS": json.dumps([f"file:{build_cross_encoder(folder / 'cross')}"]),
                "TRIVIUM_EMBEDDER_THREADS": "1",
            },
        ).start()
        self.process.keep_port()
        self.channel = grpc.insecure_channel(self.process.address, RECONNECTS)
        self.api = Api(embedder_pb2_grpc.EmbedderServiceStub(self.channel), stack.reader_key())

    def close(self):
        self.channel.close()
        self.process.stop()


@pytest.fixture(scope="module")
def several(stack, tmp_path_factory):
    made = Several(stack, tmp_path_factory.mktemp("several"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(stack, several, tmp_path_factory):
    """OpenAI's own, of a gateway that has this embedder and no other peer."""
    settings = {"TRIVIUM_EMBEDDER_ADDRESS": several.process.address}
    gateway = Gateway(tmp_path_factory.mktemp("door"), stack.access, settings).start()
    with openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=stack.reader_key(), max_retries=0) as opened:
        yield opened
    gateway.stop()


def listed(several):
    return several.api.ListEmbeddingModels(pb.ListEmbeddingModelsRequest())


def test_all_models_are_listed_the_default_first_and_what_is_wrong_is_said(several):
    eventually(lambda: listed(several).models[3].digest and listed(several).rerankers[0].digest, "all are described")
    answer = listed(several)
    assert [model.model for model in answer.models] == ["tiny", "other", "lost", "short"]
    tiny, other, lost, short = answer.models
    assert (tiny.loaded, tiny.problem, tiny.dimensions, tiny.max_tokens) == (True, "", 32, 48)
    assert (other.max_tokens, other.problem) == (20, "")
    assert lost.problem
    assert other.digest == short.digest != tiny.digest
    assert [it.model for it in answer.rerankers] == ["cross"]


def test_a_name_or_a_digest_chooses_the_model_and_naming_one_loads_it(several):
    default = several.api.Embed(pb.EmbedRequest(texts=[TEXT]))
    other = several.api.Embed(pb.EmbedRequest(texts=[TEXT], model="other"))
    assert (default.model, other.model) == ("tiny", "other")
    assert not np.allclose(matrix(default.embeddings), matrix(other.embeddings))
    again = several.api.Embed(pb.EmbedRequest(texts=[TEXT], model=other.model_digest))
    assert again.embeddings == other.embeddings
    assert listed(several).models[1].loaded


def test_each_model_has_its_own_prefix_limit_and_dimensions(several):
    asked = several.api.Embed(pb.EmbedRequest(texts=[TEXT], model="other", role=pb.TEXT_ROLE_QUERY))
    said = several.api.Embed(pb.EmbedRequest(texts=[f"boat {TEXT}"], model="other", role=pb.TEXT_ROLE_DOCUMENT))
    assert asked.embeddings == said.embeddings
    long = pb.EmbedRequest(texts=["boat " * 30], model="other")
    assert list(several.api.Embed(long).truncated) == [True]
    assert list(several.api.Embed(pb.EmbedRequest(texts=["boat " * 30])).truncated) == [False]
    short = matrix(several.api.Embed(pb.EmbedRequest(texts=[TEXT], model="short", dimensions=8)).embeddings)
    whole = matrix(several.api.Embed(pb.EmbedRequest(texts=[TEXT], model="short")).embeddings)
    assert np.allclose(short, whole[:, :8] / np.linalg.norm(whole[:, :8]), atol=1e-6)
    with refused("FIELD_INVALID"):
        several.api.Embed(pb.EmbedRequest(texts=[TEXT], dimensions=8))


def rows(answer):
    """Vectors, in whichever of the two shapes they came."""
    given = [it.embedding for it in answer.data]
    return np.array([np.frombuffer(base64.b64decode(it), "<f4") if isinstance(it, str) else it for it in given])


@pytest.mark.parametrize("shape", ["float", "base64"])
def test_the_official_client_has_vectors_cut_to_the_dimensions_that_it_asks_for(client, several, shape):
    asked = {"model": "short", "input": PASSAGES[:2], "encoding_format": shape}
    answer = client.embeddings.create(**asked, dimensions=8)
    assert {isinstance(it.embedding, str) for it in answer.data} == {shape == "base64"}
    exact = several.api.Embed(pb.EmbedRequest(texts=PASSAGES[:2], model="short", dimensions=8))
    assert rows(answer).shape == (2, 8)
    assert np.array_equal(rows(answer).astype("<f4"), matrix(exact.embeddings))
    assert rows(client.embeddings.create(**asked)).shape == (2, DIMENSIONS)
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(**{**asked, "model": "other"}, dimensions=8)
    assert refusal.value.param == "dimensions"


def test_a_model_that_is_not_there_says_so_and_an_unknown_one_says_what_there_is(several):
    with refused("MODEL_SOURCE_INVALID"):
        several.api.Embed(pb.EmbedRequest(texts=[TEXT], model="lost"))
    with refused("EMBEDDING_MODEL_NOT_FOUND"):
        several.api.CountTokens(pb.CountTokensRequest(texts=[TEXT], model="nobody"))
    assert several.api.CountTokens(pb.CountTokensRequest(texts=["boat"], model="other")).token_counts == [3]


def test_a_cross_encoder_ranks_where_it_is_named_and_late_interaction_where_it_is_not(several):
    crossed = several.api.Rerank(pb.RerankRequest(query=TEXT, passages=PASSAGES, model="cross"))
    late = several.api.Rerank(pb.RerankRequest(query=TEXT, passages=PASSAGES))
    assert list(crossed.truncated) == list(late.truncated) == [False, False, True]
    assert crossed.model_digest == listed(several).rerankers[0].digest
    assert late.model_digest == listed(several).models[0].digest
    assert all(0 <= score <= 1 for score in crossed.scores)
    assert list(crossed.scores) != list(late.scores)


def reached(several):
    """Whether it answers: a connection learns that its other end is gone when it is next used."""
    with suppress(grpc.RpcError):
        return listed(several)


def test_what_was_computed_outlives_a_kill_and_the_second_start_tries_nothing_out(several):
    texts = [f"boat {n} leaves at {n % 9}" for n in range(40)]
    before = several.api.Embed(pb.EmbedRequest(texts=texts))
    eventually(lambda: several.process.metric("trivium_embedder_cache_waiting") == 0, "the vectors are written")
    several.process.kill()
    several.process.start()
    eventually(lambda: reached(several), "our own connection stands again")
    after = several.api.Embed(pb.EmbedRequest(texts=texts))
    assert after == before
    assert several.process.metric("trivium_embedder_tokens") == 0
    assert several.process.metric("trivium_embedder_cache_hits") == 40
    loads = [json.loads(line) for line in several.process.log().splitlines() if '"model_loaded"' in line]
    starts = [load for load in loads if load["model"] == "tiny"]
    assert len(starts) == 2
    assert starts[0]["batch_tokens"] == starts[1]["batch_tokens"] > 0
    assert starts[0]["dtype"] == starts[1]["dtype"]
    assert starts[1]["trial_cosine"] is None
