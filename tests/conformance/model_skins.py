"""Names of models, where they lead, receipts and replays at both doors, behind one face: a verb with its fields in.

What comes out leaves moments out, and has None where a thing is not there.
"""

from typing import Any

import grpc
from google.protobuf import json_format
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import (
    embeddings_pb2,
    embeddings_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    replays_pb2,
    replays_pb2_grpc,
)

from tests.conformance.gateway_skins import comparable
from tests.conformance.verbs import GrpcVerbs, HttpVerbs, Told
from tests.stack import Api

_SPAN = ("marker", "collection", "document", "version", "start", "end", "chunk")
_SAME = (
    "request_id",
    "requested_model",
    "resolved_model",
    "base_digest",
    "engine",
    "engine_build",
    "engine_slot",
    "template_digest",
    "prompt_tokens_digest",
    "completion_digest",
)


class GrpcSkin(GrpcVerbs):
    """``trivium.gateway.v1``."""

    def __init__(self, channel: grpc.Channel, key: str) -> None:
        self._gateway = Api(gateway_pb2_grpc.GatewayServiceStub(channel), key)
        self._models = Api(models_pb2_grpc.ModelServiceStub(channel), key)
        self._embeddings = Api(embeddings_pb2_grpc.EmbeddingServiceStub(channel), key)
        self._replays = Api(replays_pb2_grpc.ReplayServiceStub(channel), key)

    def models(self) -> Told:
        """All names, and who could not be asked for more."""
        listing = self._gateway.ListModels(gateway_pb2.ListModelsRequest())
        return [_model(it) for it in listing.models], list(listing.unreachable)

    def model(self, name: str) -> Told:
        """What a name means."""
        return _model(self._models.GetModel(models_pb2.GetModelRequest(model=name)).model)

    def encoders(self) -> Told:
        """What makes vectors, with their lengths."""
        listing = self._embeddings.ListEmbeddingModels(embeddings_pb2.ListEmbeddingModelsRequest())
        return [(it.model, it.dimensions) for it in listing.models]

    def delete_model(self, name: str) -> Told:
        """Whether it means nothing any more."""
        return self._models.DeleteModel(models_pb2.DeleteModelRequest(model=name)) is not None

    def route(self, model: str, question: str = "", sticky_key: str = "") -> Told:
        """Where a request would go, and why."""
        request = gateway_pb2.ExplainRouteRequest(model=model, question=question, sticky_key=sticky_key)
        told = self._gateway.ExplainRoute(request)
        return {
            "model": _model(told.model),
            "resolved_model": told.resolved_model,
            "reason": told.reason,
            "alias": told.alias or None,
            "canary": told.canary,
            "engines": list(told.engines),
            "auto": _choice(told.choice) if told.HasField("choice") else None,
        }

    def receipt(self, request_id: str) -> Told:
        """What an answer was made of."""
        return _receipt(self._gateway.GetReceipt(gateway_pb2.GetReceiptRequest(request_id=request_id)).receipt)

    def replay(self, request_id: str, text: str) -> Told:
        """What became of an answer."""
        turn = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=text)
        chat = gateway_pb2.ChatRequest(model="base", messages=[turn])
        answer = self._replays.ReplayAnswer(replays_pb2.ReplayAnswerRequest(request_id=request_id, chat=chat))
        verdict = replays_pb2.ReplayVerdict.Name(answer.verdict).removeprefix("REPLAY_VERDICT_").lower()
        return verdict, answer.explanation, answer.receipt.request_id, len(answer.sources)


def _model(it: gateway_pb2.ServedModel) -> Told:
    kind = gateway_pb2.ModelKind.Name(it.kind).removeprefix("MODEL_KIND_").lower()
    return it.name, kind, it.version or None, it.base_digest, it.dimensions


def _choice(it: gateway_pb2.AutoChoice) -> Told:
    near = [(found.model, found.score) for found in it.candidates]
    return near, it.confidence, it.threshold, it.abstained, it.ambiguous


def _receipt(it: receipt_pb2.Receipt) -> Told:
    usage = it.usage.prompt_tokens, it.usage.completion_tokens, it.usage.cached_prompt_tokens
    return {
        **{name: getattr(it, name) for name in _SAME},
        "version": it.version_digest or None,
        "sampling": comparable(json_format.MessageToDict(it.sampling, preserving_proto_field_name=True)),
        "sources": [tuple(getattr(span, name) for name in _SPAN) for span in it.sources],
        "usage": usage,
    }


class HttpSkin(HttpVerbs):
    """OpenAI's shapes, and our own beside them."""

    def models(self) -> Told:
        """As its twin."""
        listing = self.sent("GET", "/models").json()
        return [self._model(it) for it in listing["data"]], listing.get("trivium", {}).get("unreachable", [])

    def model(self, name: str) -> Told:
        """As its twin."""
        return self._model(self.sent("GET", f"/models/{name}").json())

    def encoders(self) -> Told:
        """As its twin."""
        listing, _ = self.models()
        return [(name, dimensions) for name, kind, *_, dimensions in listing if kind == "encoder"]

    def delete_model(self, name: str) -> Told:
        """As its twin."""
        return self.sent("DELETE", f"/models/{name}").json()["deleted"]

    def route(self, **asked: str) -> Told:
        """As its twin."""
        told = self.sent("GET", "/trivium/route", params=asked).json()
        same = ("resolved_model", "reason", "alias", "canary", "engines")
        return {
            **{name: told[name] for name in same},
            "model": self._model(told["model"]),
            "auto": self._choice(told["auto"]) if "auto" in told else None,
        }

    def receipt(self, request_id: str) -> Told:
        """As its twin."""
        told = self.sent("GET", f"/trivium/receipts/{request_id}").json()
        usage = told["usage"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        return {
            **{name: told[name] for name in (*_SAME, "version")},
            "sampling": comparable(told["sampling"]),
            "sources": [tuple(span[name] for name in _SPAN) for span in told["sources"]],
            "usage": (usage["prompt_tokens"], usage["completion_tokens"], cached),
        }

    def replay(self, request_id: str, text: str) -> Told:
        """As its twin."""
        chat = {"model": "base", "messages": [{"role": "user", "content": text}]}
        answer = self.sent("POST", "/trivium/replays", json={"request_id": request_id, "request": chat}).json()
        return answer["verdict"], answer["explanation"], answer["receipt"]["request_id"], len(answer["sources"])

    def _model(self, it: dict[str, Any]) -> Told:
        facts = it["trivium"]
        return it["id"], facts["kind"], facts["version"], facts["base_digest"], facts.get("dimensions", 0)

    def _choice(self, it: dict[str, Any]) -> Told:
        near = [(found["model"], found["score"]) for found in it["candidates"]]
        return near, it["confidence"], it["threshold"], it["abstained"], it["ambiguous"]
