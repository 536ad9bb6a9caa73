"""/v1/models, where a request would go, and the receipt of an earlier answer: one question, one JSON document each."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.message import Message
from trivium.gateway.v1 import gateway_pb2, models_pb2

from gateway.http import rendering
from gateway.http.answers import NoQuery, Receipt
from gateway.http.model_answers import Model, ModelDeleted, Models, RouteQuery, RouteShown
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

_KINDS = {
    gateway_pb2.MODEL_KIND_BASE: "base",
    gateway_pb2.MODEL_KIND_ADAPTER: "adapter",
    gateway_pb2.MODEL_KIND_FULL: "full",
    gateway_pb2.MODEL_KIND_AUTO: "auto",
    gateway_pb2.MODEL_KIND_ENCODER: "encoder",
}


class _Lookup:
    """An exchange whose request stands in its path."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent: dict[str, str] = {}
        self._servicer = servicers.gateway
        self._models = servicers.models


class ModelsExchange(_Lookup):
    """What ``model`` may name."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return gateway_pb2.ListModelsRequest()

    async def answer(self, message: gateway_pb2.ListModelsRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        listing = await self._servicer.ListModels(message, context)
        told: dict[str, Any] = {"object": "list", "data": [_model(item) for item in listing.models]}
        if listing.unreachable:
            told["trivium"] = {"unreachable": list(listing.unreachable)}
        yield json.dumps(told).encode()


class ModelExchange(_Lookup):
    """What one name means; any name that ``model`` accepts may be asked for."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return models_pb2.GetModelRequest(model=asked.path["name"])

    async def answer(self, message: models_pb2.GetModelRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        found = await self._models.GetModel(message, context)
        yield json.dumps(_model(found.model)).encode()


class DeletionExchange(_Lookup):
    """A version or an alias of the caller's tenant, deleted by its name."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return models_pb2.DeleteModelRequest(model=asked.path["name"])

    async def answer(self, message: models_pb2.DeleteModelRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        await self._models.DeleteModel(message, context)
        yield json.dumps({"id": message.model, "object": "model", "deleted": True}).encode()


class RouteExchange(_Lookup):
    """Where a request would go, and why; of ``auto`` for the question that is given."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return gateway_pb2.ExplainRouteRequest(
            model=asked.query.get("model", ""),
            question=asked.query.get("question", ""),
            sticky_key=asked.query.get("sticky_key", ""),
        )

    async def answer(self, message: gateway_pb2.ExplainRouteRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        explained = await self._servicer.ExplainRoute(message, context)
        yield json.dumps(_route(explained), ensure_ascii=False).encode()


class ReceiptExchange(_Lookup):
    """What an earlier answer was made of."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return gateway_pb2.GetReceiptRequest(request_id=asked.path["request_id"])

    async def answer(self, message: gateway_pb2.GetReceiptRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        answer = await self._servicer.GetReceipt(message, context)
        yield json.dumps(rendering.receipt(answer.receipt)).encode()


def _model(model: gateway_pb2.ServedModel) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "kind": _KINDS.get(model.kind, "unspecified"),
        "version": model.version or None,
        "base_digest": model.base_digest,
    }
    if model.kind == gateway_pb2.MODEL_KIND_ENCODER:
        facts["dimensions"] = model.dimensions
    return {
        "id": model.name,
        "object": "model",
        "created": model.create_time_seconds,
        "owned_by": "trivium",
        "trivium": facts,
    }


def _route(explained: gateway_pb2.ExplainRouteResponse) -> dict[str, Any]:
    told = {
        "object": "trivium.route",
        "model": _model(explained.model),
        "resolved_model": explained.resolved_model,
        "reason": explained.reason,
        "alias": explained.alias or None,
        "canary": explained.canary,
        "engines": list(explained.engines),
    }
    if explained.HasField("choice"):
        choice = explained.choice
        told["auto"] = {
            "candidates": [{"model": item.model, "score": item.score} for item in choice.candidates],
            "confidence": choice.confidence,
            "threshold": choice.threshold,
            "abstained": choice.abstained,
            "ambiguous": choice.ambiguous,
        }
    return told


_RPCS = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].methods_by_name
_MODEL_RPCS = models_pb2.DESCRIPTOR.services_by_name["ModelService"].methods_by_name
ROUTES = (
    Route(
        "GET",
        "/v1/models",
        ModelsExchange,
        rpc=_RPCS["ListModels"],
        summary="The names that model accepts.",
        query=NoQuery,
        answer=Models,
    ),
    # A name may hold slashes and colons.
    Route(
        "GET",
        "/v1/models/{name:path}",
        ModelExchange,
        rpc=_MODEL_RPCS["GetModel"],
        summary="What one name means now.",
        query=NoQuery,
        answer=Model,
    ),
    Route(
        "DELETE",
        "/v1/models/{name:path}",
        DeletionExchange,
        rpc=_MODEL_RPCS["DeleteModel"],
        summary="Delete what a name means: a version, or an alias, whose versions stay.",
        query=NoQuery,
        answer=ModelDeleted,
    ),
    Route(
        "GET",
        "/v1/trivium/route",
        RouteExchange,
        limited=True,
        rpc=_RPCS["ExplainRoute"],
        summary="Where a request would go, and why.",
        query=RouteQuery,
        answer=RouteShown,
    ),
    Route(
        "GET",
        "/v1/trivium/receipts/{request_id}",
        ReceiptExchange,
        rpc=_RPCS["GetReceipt"],
        summary="What an earlier answer was made of.",
        query=NoQuery,
        answer=Receipt,
    ),
)
