"""Between protobuf and the domain."""

from typing import Any

import numpy as np
from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2 as pb

from services.chassis.context import RequestContext
from services.chassis.errors import Failure, Reason
from services.embedder.batching import Vector
from services.embedder.embedding import Asking, Embedded, EncodingModel, Use, Wanted
from services.embedder.listing import Catalogue
from services.embedder.model import EncoderFacts
from services.embedder.own_models import Listed
from services.embedder.own_versions import Role, Unfit
from services.embedder.reranking import PairModel, Ranked
from services.embedder.shelf import Place

_ELEMENTS: dict[tensor_pb2.Dtype.ValueType, tuple[tensor_pb2.Dtype.ValueType, "np.dtype[Any]"]] = {
    tensor_pb2.DTYPE_UNSPECIFIED: (tensor_pb2.DTYPE_FLOAT32, np.dtype("<f4")),
    tensor_pb2.DTYPE_FLOAT32: (tensor_pb2.DTYPE_FLOAT32, np.dtype("<f4")),
    tensor_pb2.DTYPE_FLOAT16: (tensor_pb2.DTYPE_FLOAT16, np.dtype("<f2")),
    tensor_pb2.DTYPE_INT8: (tensor_pb2.DTYPE_INT8, np.dtype("i1")),
}
_GREATEST_INT8 = 127


def asking(request: RequestContext) -> Asking:
    """Who asks.  A service without a tenant is a tenant of its own here."""
    return Asking(request.tenant_id or request.principal_id, request.deadline_seconds, request.tenant_id)


def to_wanted(request: pb.EmbedRequest) -> Wanted:
    """What to embed.  Raises FIELD_INVALID for an element type that vectors are not sent in."""
    require_dtype(request.dtype)
    use = Use.QUERY if request.role == pb.TEXT_ROLE_QUERY else Use.DOCUMENT
    tokens = tuple(tuple(text.ids) for text in request.token_ids)
    return Wanted(request.model, tuple(request.texts), use, request.dimensions, request.no_store, tokens)


def require_dtype(dtype: tensor_pb2.Dtype.ValueType) -> None:
    """Raises FIELD_INVALID unless vectors can be sent in ``dtype``."""
    if dtype not in _ELEMENTS:
        name = tensor_pb2.Dtype.Name(dtype)
        raise Failure(Reason.FIELD_INVALID, field="dtype", problem=f"{name}: vectors come as FLOAT32, FLOAT16 or INT8")


def from_embedded(embedded: Embedded, dtype: tensor_pb2.Dtype.ValueType) -> pb.EmbedResponse:
    """The answer to one request."""
    return pb.EmbedResponse(
        embeddings=packed(embedded.vectors, dtype),
        token_counts=embedded.token_counts,
        truncated=embedded.truncated,
        model_digest=embedded.facts.digest,
        model=embedded.facts.name,
    )


def packed(vectors: Vector, dtype: tensor_pb2.Dtype.ValueType) -> tensor_pb2.Tensor:
    """A matrix as little-endian bytes; as INT8 with a factor a row, by which its greatest element is 127 or -127."""
    sent, element = _ELEMENTS[dtype]
    if sent == tensor_pb2.DTYPE_INT8:
        # A row of zeros has any factor.
        scales = np.maximum(np.abs(vectors).max(axis=1), np.finfo(np.float32).tiny) / np.float32(_GREATEST_INT8)
        whole = np.rint(vectors / scales[:, None]).astype(element)
        return tensor_pb2.Tensor(data=whole.tobytes(), dtype=sent, shape=vectors.shape, scales=scales)
    return tensor_pb2.Tensor(data=vectors.astype(element).tobytes(), dtype=sent, shape=vectors.shape)


def from_ranked(ranked: Ranked) -> pb.RerankResponse:
    """Scores and what was cut."""
    return pb.RerankResponse(scores=ranked.scores, truncated=ranked.truncated, model_digest=ranked.facts.digest)


def from_models(catalogue: Catalogue) -> pb.ListEmbeddingModelsResponse:
    """All models, the default first."""
    own = [*map(from_own, catalogue.own)]
    return pb.ListEmbeddingModelsResponse(
        models=[*map(from_encoder, catalogue.encoders), *(it for it in own if isinstance(it, pb.EmbeddingModel))],
        rerankers=[*map(from_pairs, catalogue.pairs), *(it for it in own if isinstance(it, pb.RerankingModel))],
        own_problem=catalogue.problem,
    )


def from_meant(catalogue: Catalogue) -> pb.GetEmbeddingModelResponse:
    """The one model that is in a catalogue."""
    shown: list[pb.EmbeddingModel | pb.RerankingModel] = [
        *map(from_encoder, catalogue.encoders),
        *map(from_pairs, catalogue.pairs),
        *map(from_own, catalogue.own),
    ]
    found = shown[0]
    if isinstance(found, pb.RerankingModel):
        return pb.GetEmbeddingModelResponse(reranker=found)
    return pb.GetEmbeddingModelResponse(model=found)


def from_own(listed: Listed) -> pb.EmbeddingModel | pb.RerankingModel:
    """A model of the tenant's own; one that cannot be served is shown as an embedding model."""
    own = listed.version
    if isinstance(own, Unfit):
        return pb.EmbeddingModel(
            model=own.name, digest=own.files.digest, version=own.files.version, problem=own.problem
        )
    facts = listed.loaded.facts if listed.loaded is not None else own.facts
    shown = pairs_of(facts) if own.role is Role.RERANKER else encoder_of(facts)
    shown.model, shown.version, shown.loaded = own.facts.name, own.files.version, listed.loaded is not None
    return shown


def from_encoder(place: Place[EncodingModel]) -> pb.EmbeddingModel:
    """An encoder, as far as it is known."""
    shown = encoder_of(place.facts) if place.facts is not None else pb.EmbeddingModel(model=place.called)
    shown.loaded, shown.problem = place.loaded is not None, _problem(place)
    return shown


def encoder_of(facts: EncoderFacts) -> pb.EmbeddingModel:
    """What is to be known of an encoder."""
    return pb.EmbeddingModel(
        model=facts.name,
        digest=facts.digest,
        dimensions=facts.dimensions,
        max_tokens=facts.max_tokens,
        compute_dtype=facts.compute_dtype,
        normalised=facts.normalised,
    )


def from_pairs(place: Place[PairModel]) -> pb.RerankingModel:
    """A cross-encoder, as far as it is known."""
    shown = pairs_of(place.facts) if place.facts is not None else pb.RerankingModel(model=place.called)
    shown.loaded, shown.problem = place.loaded is not None, _problem(place)
    return shown


def pairs_of(facts: EncoderFacts) -> pb.RerankingModel:
    """What is to be known of a cross-encoder."""
    return pb.RerankingModel(
        model=facts.name, digest=facts.digest, max_tokens=facts.max_tokens, compute_dtype=facts.compute_dtype
    )


def _problem(place: Place[Any]) -> str:
    if place.problem is not None:
        return place.problem.sentence
    return "" if place.facts else "It is being looked up."
