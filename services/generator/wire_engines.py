"""Between the contract and the domain, of engines and the adapters that they hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from trivium.generator.v1 import generator_pb2

from services.generator.accounting import Located, Usage
from services.generator.fleet import Prepared
from services.generator.priorities import Priority
from services.generator.residency import Tier
from services.generator.supervision import EngineState
from services.generator.verbs import Changes, EngineView
from services.generator.wire_times import timestamp

_STATES = {
    EngineState.STOPPED: generator_pb2.ENGINE_STATE_STOPPED,
    EngineState.QUEUED: generator_pb2.ENGINE_STATE_QUEUED,
    EngineState.STARTING: generator_pb2.ENGINE_STATE_STARTING,
    EngineState.READY: generator_pb2.ENGINE_STATE_READY,
    EngineState.DRAINING: generator_pb2.ENGINE_STATE_DRAINING,
    EngineState.FAILED: generator_pb2.ENGINE_STATE_FAILED,
}
_TIERS = {
    Tier.FILE: generator_pb2.TIER_FILE,
    Tier.MEMORY: generator_pb2.TIER_MEMORY,
    Tier.SLOT: generator_pb2.TIER_SLOT,
}
_PRIORITIES = {
    Priority.AD_HOC: generator_pb2.PRIORITY_AD_HOC,
    Priority.PREVIOUS: generator_pb2.PRIORITY_PREVIOUS,
    Priority.CANDIDATE: generator_pb2.PRIORITY_CANDIDATE,
    Priority.SERVING: generator_pb2.PRIORITY_SERVING,
    Priority.PROTECTED: generator_pb2.PRIORITY_PROTECTED,
}
_MAX_ERROR = 2000


def to_adapter(located: Located, now: datetime, monotonic: float) -> generator_pb2.Adapter:
    """An adapter as this generator holds it; ``now`` and ``monotonic`` are the same moment on two clocks."""
    stored, held = located.stored, located.resident
    adapter = generator_pb2.Adapter(
        version=stored.version,
        tenant=stored.tenant,
        model=stored.model,
        tier=generator_pb2.TIER_FILE,
        size_bytes=stored.size_bytes,
        rank=stored.rank,
        priority=_PRIORITIES[located.priority],
    )
    if held is not None:
        adapter.tier = _TIERS[held.tier]
        adapter.size_bytes = held.weight_bytes if held.at_hand else stored.size_bytes
        adapter.in_flight, adapter.pinned, adapter.load_seconds = held.in_flight, held.pinned, held.load_seconds
        if held.used_at:
            adapter.last_use_time.CopyFrom(timestamp(now - timedelta(seconds=monotonic - held.used_at)))
    elif located.shelved is not None:
        adapter.last_use_time.CopyFrom(timestamp(datetime.fromtimestamp(located.shelved.used_at, UTC)))
    return adapter


def to_tier(usage: Usage) -> generator_pb2.TierUsage:
    """What lies in one tier."""
    return generator_pb2.TierUsage(
        tier=_TIERS[usage.tier],
        versions=usage.versions,
        size_bytes=usage.size_bytes,
        limit_versions=usage.limit_versions,
        limit_bytes=usage.limit_bytes,
        hits=usage.tally.hits,
        loads=usage.tally.loads,
        evictions=usage.tally.evictions,
    )


def to_departed(located: Located) -> generator_pb2.Adapter:
    """An adapter that was unloaded."""
    stored = located.stored
    return generator_pb2.Adapter(
        version=stored.version, tenant=stored.tenant, model=stored.model, tier=generator_pb2.TIER_REMOTE
    )


def to_full_model(prepared: Prepared) -> generator_pb2.Adapter:
    """A full model that an engine of its own has loaded."""
    target = prepared.target
    return generator_pb2.Adapter(
        version=target.version,
        tenant=prepared.tenant,
        model=target.model,
        tier=generator_pb2.TIER_SLOT,
        size_bytes=target.host.size_bytes,
        in_flight=target.host.slots.running,
    )


def to_loaded(loaded: Located | Prepared, now: datetime, monotonic: float) -> generator_pb2.Adapter:
    """What LoadAdapter loaded."""
    return to_full_model(loaded) if isinstance(loaded, Prepared) else to_adapter(loaded, now, monotonic)


def to_changes(changes: Changes, now: datetime, monotonic: float) -> Iterator[generator_pb2.WatchAdaptersResponse]:
    """The messages of one round of changes."""
    for view in changes.engines:
        yield generator_pb2.WatchAdaptersResponse(engine=to_engine(view))
    for held in changes.entered:
        yield generator_pb2.WatchAdaptersResponse(adapter=to_adapter(held, now, monotonic))
    for held in changes.left:
        yield generator_pb2.WatchAdaptersResponse(adapter=to_departed(held))
    if changes.caught_up:
        yield generator_pb2.WatchAdaptersResponse(caught_up=True)


def to_engine(view: EngineView) -> generator_pb2.Engine:
    """One engine."""
    facts = view.facts
    engine = generator_pb2.Engine(
        engine=facts.name,
        state=_STATES[view.state],
        build=facts.build,
        base=facts.base,
        base_digest=facts.base_digest,
        slots=facts.slots,
        max_rank=facts.max_rank,
        context_tokens=facts.context_tokens,
        running=view.running,
        waiting=view.waiting,
        restarts=view.restarts,
        memory_bytes=view.memory_bytes,
        estimated_bytes=view.estimated_bytes,
        model=view.model,
        version=view.version,
        idle_seconds=view.idle_seconds,
        last_error=view.last_error[:_MAX_ERROR],
    )
    if view.started_at is not None:
        engine.start_time.CopyFrom(timestamp(view.started_at))
    return engine
