"""Names of models and the wire, both ways."""

from trivium.gateway.v1 import gateway_pb2, models_pb2

from gateway.models.naming import Listing
from gateway.routing import ModelKind, ServedModel

_KINDS = {
    ModelKind.UNSPECIFIED: gateway_pb2.MODEL_KIND_UNSPECIFIED,
    ModelKind.BASE: gateway_pb2.MODEL_KIND_BASE,
    ModelKind.ADAPTER: gateway_pb2.MODEL_KIND_ADAPTER,
    ModelKind.FULL: gateway_pb2.MODEL_KIND_FULL,
    ModelKind.AUTO: gateway_pb2.MODEL_KIND_AUTO,
    ModelKind.ENCODER: gateway_pb2.MODEL_KIND_ENCODER,
}


def to_model(model: ServedModel) -> gateway_pb2.ServedModel:
    """One name as the wire carries it."""
    return gateway_pb2.ServedModel(
        name=model.name,
        kind=_KINDS[model.kind],
        version=model.version,
        create_time_seconds=model.create_time_seconds,
        base_digest=model.base_digest,
        dimensions=model.dimensions,
    )


def listing(listed: Listing) -> gateway_pb2.ListModelsResponse:
    """The names as the wire carries them."""
    return gateway_pb2.ListModelsResponse(models=map(to_model, listed.models), unreachable=listed.unreachable)


def found(model: ServedModel) -> models_pb2.GetModelResponse:
    """One name that was looked up."""
    return models_pb2.GetModelResponse(model=to_model(model))
