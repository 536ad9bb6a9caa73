import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium_client.vectors import rows as unpacked_rows

from tests.stack import refused

TEXTS = ["A single crossing costs six crowns.", "The fog horn sounds twice.", "boat " * 300]

DTYPES = (tensor_pb2.DTYPE_FLOAT32, tensor_pb2.DTYPE_FLOAT16, tensor_pb2.DTYPE_INT8)


def matrix(tensor: tensor_pb2.Tensor) -> np.ndarray:
    element = {tensor_pb2.DTYPE_FLOAT32: "<f4", tensor_pb2.DTYPE_FLOAT16: "<f2"}[tensor.dtype]
    return np.frombuffer(tensor.data, dtype=element).reshape(tuple(tensor.shape))


def test_vectors_come_packed_with_counts_and_truncation_text_by_text(embedder):
    answer = embedder.Embed(pb.EmbedRequest(texts=TEXTS))
    assert answer.embeddings.dtype == tensor_pb2.DTYPE_FLOAT32
    assert list(answer.embeddings.shape) == [3, 384]
    assert np.allclose(np.linalg.norm(matrix(answer.embeddings), axis=1), 1, atol=1e-5)
    assert list(answer.truncated) == [False, False, True]
    assert answer.token_counts[2] == 302
    assert answer.model_digest.startswith("sha256:")
    assert answer.model == "all-minilm-l6-v2"


def test_half_precision_is_the_same_vector_in_half_the_bytes(embedder):
    whole = embedder.Embed(pb.EmbedRequest(texts=TEXTS)).embeddings
    half = embedder.Embed(pb.EmbedRequest(texts=TEXTS, dtype=tensor_pb2.DTYPE_FLOAT16)).embeddings
    assert len(half.data) * 2 == len(whole.data)
    assert np.array_equal(matrix(whole).astype("<f2"), matrix(half))


def test_a_byte_an_element_is_the_same_vector_to_half_a_step_and_the_sdk_unpacks_it(embedder):
    whole = matrix(embedder.Embed(pb.EmbedRequest(texts=TEXTS)).embeddings)
    small = embedder.Embed(pb.EmbedRequest(texts=TEXTS, dtype=tensor_pb2.DTYPE_INT8)).embeddings
    assert len(small.data) * 4 == whole.nbytes
    unpacked = np.array(unpacked_rows(small))
    assert np.all(np.abs(unpacked - whole) <= np.array(small.scales)[:, None] * 0.501)
    cosines = np.sum(unpacked * whole, axis=1) / np.linalg.norm(unpacked, axis=1)
    assert cosines.min() > 0.9995


def test_a_text_gets_the_same_bits_alone_and_in_a_crowd(embedder):
    texts = [f"Boat {n} takes {n % 7 + 2} crowns from stage {n % 5}" for n in range(60)]
    together = matrix(embedder.Embed(pb.EmbedRequest(texts=texts)).embeddings)
    with ThreadPoolExecutor(16) as pool:
        alone = list(pool.map(lambda text: embedder.Embed(pb.EmbedRequest(texts=[text])).embeddings.data, texts))
    assert [row.tobytes() for row in together] == alone


def test_a_stream_answers_each_request_in_order(embedder):
    def requests():
        for n in range(12):
            texts = [f"passage {n} {at} " + "word " * ((n * 5) % 40) for at in range(n % 3 + 1)]
            yield pb.EmbedStreamRequest(request=pb.EmbedRequest(texts=texts, dtype=DTYPES[n % 3]))

    answers = list(embedder.EmbedStream(requests()))
    assert [len(answer.response.token_counts) for answer in answers] == [n % 3 + 1 for n in range(12)]
    assert [answer.response.embeddings.dtype for answer in answers] == [DTYPES[n % 3] for n in range(12)]


def test_a_stream_ends_with_the_failure_of_its_request(embedder):
    requests = [pb.EmbedStreamRequest(request=pb.EmbedRequest(texts=[text])) for text in ("fine", "  ")]
    with refused("TEXT_EMPTY"):
        list(embedder.EmbedStream(iter(requests)))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.EmbedRequest(), "REQUEST_INVALID"),
        (pb.EmbedRequest(texts=["x"], model="another"), "EMBEDDING_MODEL_NOT_FOUND"),
        (pb.EmbedRequest(texts=["x", " "]), "TEXT_EMPTY"),
        (pb.EmbedRequest(texts=["x"], dimensions=100), "FIELD_INVALID"),
        (pb.EmbedRequest(texts=["x"], dtype=tensor_pb2.DTYPE_BFLOAT16), "FIELD_INVALID"),
    ],
)
def test_a_request_that_cannot_be_served_says_why(embedder, request_, reason):
    with refused(reason):
        embedder.Embed(request_)


def test_counts_say_what_a_text_costs(embedder):
    answer = embedder.CountTokens(pb.CountTokensRequest(texts=["", "ferry", "boat " * 300]))
    assert list(answer.token_counts) == [2, 3, 302]
    with refused("EMBEDDING_MODEL_NOT_FOUND"):
        embedder.CountTokens(pb.CountTokensRequest(texts=["x"], model="another"))


def test_reranking_puts_the_answer_first(embedder):
    passages = ["Paint is ordered in March.", TEXTS[0], TEXTS[1], TEXTS[2]]
    answer = embedder.Rerank(pb.RerankRequest(query="How much is one crossing?", passages=passages))
    assert max(range(4), key=answer.scores.__getitem__) == 1
    assert list(answer.truncated) == [False, False, False, True]
    assert answer.model_digest.startswith("sha256:")


def test_the_model_is_listed_with_its_digest_and_limits(embedder):
    (model,) = embedder.ListEmbeddingModels(pb.ListEmbeddingModelsRequest()).models
    assert (model.model, model.dimensions, model.max_tokens, model.normalised) == ("all-minilm-l6-v2", 384, 256, True)
    assert model.compute_dtype in ("float32", "bfloat16")
    assert embedder.Embed(pb.EmbedRequest(texts=["x"], model=model.digest)).model_digest == model.digest


def test_nobody_embeds_without_a_credential(stack):
    with refused("CREDENTIAL_MISSING"):
        stack.api().Embed(pb.EmbedRequest(texts=["x"]))


def test_the_service_is_healthy_once_its_model_is_loaded(stack):
    admin = json.loads(stack.embedder.run_file.read_text())["admin_listen"]
    with grpc.insecure_channel(admin) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="trivium.embedder.v1.EmbedderService")
        assert health.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    assert '"event": "model_loaded"' in stack.embedder.log()


def test_texts_and_keys_stay_out_of_the_log(stack, embedder):
    embedder.Embed(pb.EmbedRequest(texts=["an utterly private sentence"]))
    assert "private" not in stack.embedder.log()
    assert stack.key() not in stack.embedder.log()
