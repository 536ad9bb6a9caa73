"""Measurements, canaries, gates, searches and families: protobuf to nouns and back.  Part of `wire`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trivium.registry.v1 import model_pb2, registry_pb2

from trivium_client import governance_nouns, model_wire, wire


def gate(message: registry_pb2.Gate) -> governance_nouns.Gate:
    """From the wire."""
    bound = message.forgetting
    return governance_nouns.Gate(
        gate=message.gate,
        metric=message.metric,
        direction=wire.word(registry_pb2.MetricDirection, message.direction),
        dataset_digest=message.dataset_digest,
        alias=message.alias,
        required_value=message.required_value if message.HasField("required_value") else None,
        least_improvement=message.least_improvement if message.HasField("least_improvement") else None,
        forgetting=governance_nouns.ForgettingBound(
            metric=bound.metric,
            most_loss=bound.most_loss,
            dataset_digest=bound.dataset_digest,
            direction=wire.word(registry_pb2.MetricDirection, bound.direction),
        )
        if message.HasField("forgetting")
        else None,
        checks_rollbacks=message.checks_rollbacks,
        principal=message.principal,
        create_time=wire.time(message.create_time),
    )


def gate_to_wire(gate: governance_nouns.Gate) -> registry_pb2.Gate:
    """To the wire.  Raises ValueError for an unknown direction."""
    message = registry_pb2.Gate(
        gate=gate.gate,
        metric=gate.metric,
        direction=wire.number(registry_pb2.MetricDirection, gate.direction, "direction"),
        dataset_digest=gate.dataset_digest,
        alias=gate.alias,
        required_value=gate.required_value,
        least_improvement=gate.least_improvement,
        checks_rollbacks=gate.checks_rollbacks,
    )
    if (bound := gate.forgetting) is not None:
        message.forgetting.metric = bound.metric
        message.forgetting.dataset_digest = bound.dataset_digest
        message.forgetting.direction = wire.number(registry_pb2.MetricDirection, bound.direction, "direction")
        message.forgetting.most_loss = bound.most_loss
    return message


def search_to_wire(conditions: Mapping[str, Any]) -> registry_pb2.SearchVersionsRequest:
    """To the wire.  Raises ValueError for an unknown kind or order."""
    words = {
        "kind": wire.number(model_pb2.VersionKind, conditions["kind"], "kind"),
        "order": wire.number(registry_pb2.SearchOrder, conditions["order"], "order"),
    }
    return registry_pb2.SearchVersionsRequest(**{**conditions, **words})


def found(message: registry_pb2.FoundVersion) -> governance_nouns.FoundVersion:
    """From the wire."""
    return governance_nouns.FoundVersion(
        model_wire.version(message.version), message.value if message.HasField("value") else None
    )


def family(message: registry_pb2.GetLineageResponse) -> governance_nouns.Family:
    """From the wire."""
    return governance_nouns.Family(
        chain=tuple(model_wire.version(version) for version in message.chain),
        ancestors=tuple(_relative(node) for node in message.ancestors),
        descendants=tuple(_relative(node) for node in message.descendants),
        truncated=message.truncated,
    )


def _relative(message: registry_pb2.LineageNode) -> governance_nouns.Relative:
    return governance_nouns.Relative(model_wire.version(message.version), message.via, message.depth)


def change(message: model_pb2.ModelChange) -> governance_nouns.ModelChange:
    """From the wire."""
    return governance_nouns.ModelChange(
        number=message.number,
        kind=wire.word(model_pb2.ModelChangeKind, message.kind),
        version=message.version,
        version_number=message.version_number,
        principal=message.principal,
        create_time=wire.time(message.create_time),
        reason=message.reason,
        detail=message.detail,
    )
