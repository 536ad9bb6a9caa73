"""Aliases on the wire: their state, their canaries, what happened to them, and the gates that guard them."""

from trivium.registry.v1 import model_pb2, registry_pb2

from services.chassis import paging
from services.chassis.errors import Failure, Reason
from services.registry.alias_view import Alias, Canary
from services.registry.aliases import Wish
from services.registry.canaries import CanaryWish
from services.registry.gate_keeping import Gate
from services.registry.gates import Direction, ForgettingBound, Policy
from services.registry.moves import Move
from services.registry.readiness import Life, Readiness, ReadinessState, Report
from services.registry.wire_kinds import KINDS
from services.registry.wire_times import time

_DIRECTIONS = {
    registry_pb2.METRIC_DIRECTION_UNSPECIFIED: Direction.HIGHER,
    registry_pb2.METRIC_DIRECTION_HIGHER: Direction.HIGHER,
    registry_pb2.METRIC_DIRECTION_LOWER: Direction.LOWER,
}


def alias(value: Alias) -> model_pb2.Alias:
    """An alias as the API shows it."""
    return model_pb2.Alias(
        model=value.model,
        alias=value.alias,
        target_version=value.target,
        serving_version=value.serving,
        state=model_pb2.AliasState.Value(f"ALIAS_STATE_{value.state.value}"),
        reason=value.reason,
        etag=value.etag,
        update_time=time(value.updated_at),
        readiness=[_readiness(word) for word in value.readiness],
        tenant=value.tenant,
        canaries=[_canary(item) for item in value.canaries],
        previous_version=value.previous,
        kind=KINDS[value.kind],
    )


def listed(request: registry_pb2.ListAliasesRequest, values: list[Alias]) -> registry_pb2.ListAliasesResponse:
    """A page of aliases; ``values`` has one more than the page when there is more."""
    shown = paging.fitting([alias(item) for item in values[: paging.size_of(request.page_size)]])
    token = ""
    if len(values) > len(shown):
        last = values[len(shown) - 1]
        token = paging.encode([last.tenant, last.model, last.alias], request.model)
    return registry_pb2.ListAliasesResponse(aliases=shown, next_page_token=token)


def _canary(value: Canary) -> model_pb2.Canary:
    return model_pb2.Canary(
        version=value.version,
        number=value.number,
        percent=value.percent,
        state=model_pb2.CanaryState.Value(f"CANARY_STATE_{value.state.value}"),
        reason=value.reason,
        readiness=[_readiness(word) for word in value.readiness],
    )


def _readiness(value: Readiness) -> model_pb2.Readiness:
    return model_pb2.Readiness(
        generator=value.generator,
        version=value.version,
        state=model_pb2.ReadinessState.Value(f"READINESS_STATE_{value.state.value}"),
        reason=value.reason,
        update_time=time(value.updated_at),
        instance=value.instance,
    )


def report(request: registry_pb2.ReportReadinessRequest) -> Report:
    """A generator's word.  Raises FIELD_INVALID when it speaks of a version without a state."""
    life = Life(request.generator, request.instance)
    if not request.version:
        return Report(life)
    if request.state == model_pb2.READINESS_STATE_UNSPECIFIED:
        raise Failure(Reason.FIELD_INVALID, field="state", problem="a report on a version needs a state")
    name = model_pb2.ReadinessState.Name(request.state).removeprefix("READINESS_STATE_")
    return Report(life, request.tenant, request.version, ReadinessState(name), request.reason)


def move(value: Move) -> model_pb2.AliasMove:
    """One thing that happened to an alias."""
    return model_pb2.AliasMove(
        number=value.number,
        from_version=value.from_version,
        to_version=value.to_version,
        principal=value.principal,
        create_time=time(value.created_at),
        reason=value.reason,
        kind=model_pb2.AliasMoveKind.Value(f"ALIAS_MOVE_KIND_{value.kind.value}"),
        percent=value.percent,
        detail=value.detail,
    )


def wish(request: registry_pb2.SetAliasRequest) -> Wish:
    """Where an alias is to move."""
    return Wish(request.target_version, request.etag, request.reason, request.rollback)


def canary_wish(request: registry_pb2.SetCanaryRequest) -> CanaryWish:
    """Which share a version is to get."""
    return CanaryWish(request.version, request.percent, request.etag, request.reason)


def policy(value: registry_pb2.Gate) -> Policy:
    """The conditions of a gate; ``threshold`` is what ``required_value`` was called."""
    required = value.required_value if value.HasField("required_value") else (value.threshold or None)
    bound = value.forgetting if value.HasField("forgetting") else None
    return Policy(
        metric=value.metric,
        direction=_DIRECTIONS[value.direction],
        dataset_digest=value.dataset_digest,
        alias=value.alias,
        required_value=required,
        least_improvement=value.least_improvement if value.HasField("least_improvement") else None,
        forgetting=None if bound is None else _bound(bound),
        checks_rollbacks=value.checks_rollbacks,
    )


def _bound(value: registry_pb2.ForgettingBound) -> ForgettingBound:
    return ForgettingBound(value.metric, value.dataset_digest, _DIRECTIONS[value.direction], value.most_loss)


def gate(value: Gate) -> registry_pb2.Gate:
    """A gate as the API shows it."""
    asked = value.policy
    message = registry_pb2.Gate(
        gate=value.gate,
        metric=asked.metric,
        dataset_digest=asked.dataset_digest,
        create_time=time(value.created_at),
        alias=asked.alias,
        direction=registry_pb2.MetricDirection.Value(f"METRIC_DIRECTION_{asked.direction.value}"),
        required_value=asked.required_value,
        least_improvement=asked.least_improvement,
        checks_rollbacks=asked.checks_rollbacks,
        principal=value.principal,
    )
    if (bound := asked.forgetting) is not None:
        message.forgetting.CopyFrom(
            registry_pb2.ForgettingBound(
                metric=bound.metric,
                dataset_digest=bound.dataset_digest,
                direction=registry_pb2.MetricDirection.Value(f"METRIC_DIRECTION_{bound.direction.value}"),
                most_loss=bound.most_loss,
            )
        )
    return message
