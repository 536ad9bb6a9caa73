"""What weights are, on the wire."""

from trivium.registry.v1 import model_pb2

from services.registry.manifests import EncoderRole, Kind

KINDS = {
    None: model_pb2.VERSION_KIND_UNSPECIFIED,
    Kind.LORA: model_pb2.VERSION_KIND_LORA,
    Kind.FULL: model_pb2.VERSION_KIND_FULL,
    Kind.ENCODER: model_pb2.VERSION_KIND_ENCODER,
}
KINDS_BACK = {number: kind for kind, number in KINDS.items() if kind is not None}
ROLES = {
    None: model_pb2.ENCODER_ROLE_UNSPECIFIED,
    EncoderRole.EMBEDDER: model_pb2.ENCODER_ROLE_EMBEDDER,
    EncoderRole.RERANKER: model_pb2.ENCODER_ROLE_RERANKER,
}
