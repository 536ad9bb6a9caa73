"""What serves, from the wire.  Part of `wire`."""

from __future__ import annotations

from trivium.gateway.v1 import gateway_pb2
from trivium.generator.v1 import generator_pb2

from trivium_client import nouns, wire


def served_model(message: gateway_pb2.ServedModel) -> nouns.ServedModel:
    """From the wire."""
    return nouns.ServedModel(
        name=message.name,
        kind=wire.word(gateway_pb2.ModelKind, message.kind),
        version=message.version,
        base_digest=message.base_digest,
    )


def route(message: gateway_pb2.ExplainRouteResponse) -> nouns.Route:
    """From the wire."""
    return nouns.Route(
        name=message.resolved_model,
        kind=wire.word(gateway_pb2.ModelKind, message.model.kind),
        version=message.model.version,
        alias=message.alias,
        canary=message.canary,
        engines=tuple(message.engines),
        reason=message.reason,
        candidates=tuple(nouns.ScoredModel(item.model, item.score) for item in message.choice.candidates),
        confidence=message.choice.confidence,
        threshold=message.choice.threshold,
        abstained=message.choice.abstained,
        ambiguous=message.choice.ambiguous,
    )


def engine(message: generator_pb2.Engine) -> nouns.Engine:
    """From the wire."""
    return nouns.Engine(
        engine=message.engine,
        state=wire.word(generator_pb2.EngineState, message.state),
        build=message.build,
        base=message.base,
        base_digest=message.base_digest,
        slots=message.slots,
        max_rank=message.max_rank,
        context_tokens=message.context_tokens,
        running=message.running,
        waiting=message.waiting,
        restarts=message.restarts,
        start_time=wire.time(message.start_time),
        model=message.model,
        version=message.version,
        memory_bytes=message.memory_bytes,
        estimated_bytes=message.estimated_bytes,
        idle_seconds=message.idle_seconds,
        last_error=message.last_error,
    )


def adapter(message: generator_pb2.Adapter) -> nouns.Adapter:
    """From the wire."""
    return nouns.Adapter(
        version=message.version,
        model=message.model,
        tier=wire.word(generator_pb2.Tier, message.tier),
        size_bytes=message.size_bytes,
        in_flight=message.in_flight,
        pinned=message.pinned,
        load_seconds=message.load_seconds,
        priority=wire.word(generator_pb2.Priority, message.priority),
    )


def tier_usage(message: generator_pb2.TierUsage) -> nouns.TierUsage:
    """From the wire."""
    return nouns.TierUsage(
        tier=wire.word(generator_pb2.Tier, message.tier),
        versions=message.versions,
        size_bytes=message.size_bytes,
        limit_versions=message.limit_versions,
        limit_bytes=message.limit_bytes,
        hits=message.hits,
        loads=message.loads,
        evictions=message.evictions,
    )
