"""Vectors through the unmodified official client: numbers and base64, texts and tokens, and what is refused."""

import grpc
import numpy as np
import openai
import pytest
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.gateway.v1 import embeddings_pb2, embeddings_pb2_grpc

from services.chassis.models import DEFAULT_EMBEDDING, resolve
from services.embedder.model import FastTokenizer
from services.ops.supervisor import Suite
from tests.integration.gateway.stock import metadata

TEXTS = ["A single crossing costs six crowns.", "The fog horn sounds twice."]
MODEL = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def client(suite: Suite):
    with openai.OpenAI(base_url=f"{suite.http}/v1", api_key=suite.api_key, timeout=240, max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def exact(suite: Suite) -> np.ndarray:
    """The embedder's own vectors."""
    with grpc.insecure_channel(suite.addresses["embedder"]) as channel:
        stub = embedder_pb2_grpc.EmbedderServiceStub(channel)
        request = embedder_pb2.EmbedRequest(texts=TEXTS)
        answer = stub.Embed(request, metadata=metadata(suite.api_key), timeout=60)
    return np.frombuffer(answer.embeddings.data, "<f4").reshape(tuple(answer.embeddings.shape))


def matrix(answer: openai.types.CreateEmbeddingResponse) -> np.ndarray:
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    return np.array([item.embedding for item in answer.data], "<f4")


def test_a_list_of_texts_becomes_the_embedders_vectors(client: openai.OpenAI, exact: np.ndarray) -> None:
    # Without a format the client asks for base64 and decodes it.
    answer = client.embeddings.create(model=MODEL, input=TEXTS, user="ada")
    assert np.array_equal(matrix(answer), exact)
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)


def test_one_text_as_numbers_is_the_same_vector(client: openai.OpenAI, exact: np.ndarray) -> None:
    answer = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="float")
    assert isinstance(answer.data[0].embedding[0], float)
    assert np.array_equal(matrix(answer), exact[:1])
    encoded = client.embeddings.create(model=MODEL, input=TEXTS[0], encoding_format="base64")
    assert isinstance(encoded.data[0].embedding, str)


def test_tokens_are_embedded_as_the_text_that_they_are_of(client: openai.OpenAI, exact: np.ndarray) -> None:
    tokenizer = FastTokenizer(resolve(DEFAULT_EMBEDDING).path)
    ids = [list(text[1:-1]) for text in tokenizer.ids(TEXTS)]
    assert np.allclose(matrix(client.embeddings.create(model=MODEL, input=ids)), exact, atol=1e-6)
    assert np.allclose(matrix(client.embeddings.create(model=MODEL, input=ids[0])), exact[:1], atol=1e-6)


def test_dimensions_that_the_model_has_are_given(client: openai.OpenAI, exact: np.ndarray) -> None:
    answer = client.embeddings.create(model=MODEL, input=TEXTS, dimensions=384)
    assert np.array_equal(matrix(answer), exact)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 100}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"input": [[1, 90_000_000]]}, "input"),
        ({"input": []}, "input"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"extra_body": {"truncate": "END"}}, "truncate"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: openai.OpenAI, fields, param) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(**{"model": MODEL, "input": TEXTS, **fields})
    assert refused.value.param == param


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.embeddings.create(model="nobodys", input="x")
    assert refused.value.code == "embedding_model_not_found"


def test_grpc_gives_the_same_bytes_and_lists_the_models(suite: Suite, exact: np.ndarray) -> None:
    with grpc.insecure_channel(suite.addresses["gateway"]) as channel:
        stub = embeddings_pb2_grpc.EmbeddingServiceStub(channel)
        request = embeddings_pb2.CreateEmbeddingsRequest(request=embedder_pb2.EmbedRequest(texts=TEXTS))
        answer = stub.CreateEmbeddings(request, metadata=metadata(suite.api_key), timeout=60)
        listing = stub.ListEmbeddingModels(
            embeddings_pb2.ListEmbeddingModelsRequest(), metadata=metadata(suite.api_key), timeout=60
        )
    assert answer.embeddings.data == exact.tobytes()
    assert listing.models[0].model == MODEL
