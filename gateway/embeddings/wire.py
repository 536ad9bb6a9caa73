"""``trivium.gateway.v1`` embeddings and the domain, both ways; the embedder's messages are part of the contract."""

from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2
from trivium.gateway.v1 import embeddings_pb2

from gateway.embeddings.embedding import Element, EmbeddingModel, Purpose, Vectors, Wanted
from gateway.limits.terms import Demand, guessed_tokens
from gateway.names import model_of
from services.chassis.errors import Failure, Reason

_ELEMENTS = {
    tensor_pb2.DTYPE_UNSPECIFIED: Element.FLOAT32,
    tensor_pb2.DTYPE_FLOAT32: Element.FLOAT32,
    tensor_pb2.DTYPE_FLOAT16: Element.FLOAT16,
    tensor_pb2.DTYPE_INT8: Element.INT8,
}
_DTYPES = {
    Element.FLOAT32: tensor_pb2.DTYPE_FLOAT32,
    Element.FLOAT16: tensor_pb2.DTYPE_FLOAT16,
    Element.INT8: tensor_pb2.DTYPE_INT8,
}


def wanted(request: embeddings_pb2.CreateEmbeddingsRequest) -> Wanted:
    """What to embed.  Raises FIELD_INVALID for an element type that vectors are not sent in."""
    asked = request.request
    if asked.dtype not in _ELEMENTS:
        problem = f"{tensor_pb2.Dtype.Name(asked.dtype)}: vectors come as FLOAT32, FLOAT16 or INT8"
        raise Failure(Reason.FIELD_INVALID, field="request.dtype", problem=problem)
    return Wanted(
        model=asked.model,
        texts=tuple(asked.texts),
        tokens=tuple(tuple(text.ids) for text in asked.token_ids),
        purpose=Purpose.QUERY if asked.role == embedder_pb2.TEXT_ROLE_QUERY else Purpose.DOCUMENT,
        element=_ELEMENTS[asked.dtype],
        dimensions=asked.dimensions,
        no_store=asked.no_store,
        request_id=request.request_id,
    )


def demand(request: embeddings_pb2.CreateEmbeddingsRequest) -> Demand:
    """What it would use of its limits: guessed for texts, counted for tokens.  The default model has no name yet."""
    asked = request.request
    tokens = guessed_tokens(asked.texts) + sum(len(text.ids) for text in asked.token_ids)
    return Demand(model_of(asked.model) if asked.model else "", tokens, 0)


def to_embed(wanted: Wanted) -> embedder_pb2.EmbedRequest:
    """The same for the embedder."""
    query = wanted.purpose is Purpose.QUERY
    return embedder_pb2.EmbedRequest(
        model=wanted.model,
        texts=wanted.texts,
        token_ids=[embedder_pb2.TextTokens(ids=ids) for ids in wanted.tokens],
        role=embedder_pb2.TEXT_ROLE_QUERY if query else embedder_pb2.TEXT_ROLE_DOCUMENT,
        dtype=_DTYPES[wanted.element],
        dimensions=wanted.dimensions,
        no_store=wanted.no_store,
    )


def of_embedded(response: embedder_pb2.EmbedResponse) -> Vectors:
    """The embedder's answer."""
    tensor = response.embeddings
    return Vectors(
        packed=tensor.data,
        element=_ELEMENTS[tensor.dtype],
        shape=tuple(tensor.shape),
        scales=tuple(tensor.scales),
        token_counts=tuple(response.token_counts),
        truncated=tuple(response.truncated),
        model=response.model,
        model_digest=response.model_digest,
    )


def vectors_response(vectors: Vectors) -> embeddings_pb2.CreateEmbeddingsResponse:
    """Vectors as our own API carries them."""
    return embeddings_pb2.CreateEmbeddingsResponse(
        embeddings=tensor_pb2.Tensor(
            data=vectors.packed, dtype=_DTYPES[vectors.element], shape=vectors.shape, scales=vectors.scales
        ),
        token_counts=vectors.token_counts,
        truncated=vectors.truncated,
        model_digest=vectors.model_digest,
        model=vectors.model,
    )


def of_model(message: embedder_pb2.EmbeddingModel) -> EmbeddingModel:
    """A model as the embedder tells of it."""
    return EmbeddingModel(
        name=message.model,
        digest=message.digest,
        dimensions=message.dimensions,
        max_tokens=message.max_tokens,
        compute_dtype=message.compute_dtype,
        normalised=message.normalised,
        loaded=message.loaded,
        problem=message.problem,
        version=message.version,
    )


def models_response(models: list[EmbeddingModel]) -> embeddings_pb2.ListEmbeddingModelsResponse:
    """The models as our own API carries them."""
    return embeddings_pb2.ListEmbeddingModelsResponse(
        models=[
            embedder_pb2.EmbeddingModel(
                model=model.name,
                digest=model.digest,
                dimensions=model.dimensions,
                max_tokens=model.max_tokens,
                compute_dtype=model.compute_dtype,
                normalised=model.normalised,
                loaded=model.loaded,
                problem=model.problem,
                version=model.version,
            )
            for model in models
        ]
    )
