"""Protobuf to nouns and back; the only file of the SDK, with `asynchronous`, that knows the stubs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2
from trivium.gateway.v1 import gateway_pb2
from trivium.generator.v1 import generator_pb2
from trivium.registry.v1 import model_pb2
from trivium.retriever.v1 import retriever_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2

from trivium_client import nouns


def time(stamp: Timestamp) -> datetime | None:
    """An aware datetime, None for a timestamp that was not set."""
    return stamp.ToDatetime(UTC) if stamp.seconds or stamp.nanos else None


def word(kind: Any, value: int) -> str:
    """An enum value as a lower-case word without its prefix; empty when unspecified, its number when newer than us."""
    if value == 0:
        return ""
    known = kind.DESCRIPTOR.values_by_number
    if value not in known:
        return str(value)
    prefix = str(known[0].name).removesuffix("UNSPECIFIED")
    return str(known[value].name).removeprefix(prefix).lower()


def number(kind: Any, name: str, what: str) -> Any:
    """The enum value that a lower-case word names, 0 for an empty one; Any, because each stub takes its own enum.

    Raises ValueError that lists what there is.
    """
    if not name:
        return 0
    values: dict[str, int] = {word(kind, value): value for value in kind.DESCRIPTOR.values_by_number if value}
    if name.lower() not in values:
        raise ValueError(f"{what} {name!r} is none of {', '.join(values)}")
    return values[name.lower()]


def collection(message: retriever_pb2.Collection) -> nouns.Collection:
    """From the wire."""
    return nouns.Collection(
        collection=message.collection,
        description=message.description,
        embedding_digest=message.embedding_digest,
        etag=message.etag,
        create_time=time(message.create_time),
    )


def document(message: retriever_pb2.Document) -> nouns.Document:
    """From the wire."""
    return nouns.Document(
        collection=message.collection,
        document=message.document,
        title=message.title,
        state=word(retriever_pb2.IngestionState, message.state),
        reason=message.reason,
        serving_version=message.serving_version,
        newest_version=message.newest_version,
        media_type=message.media_type,
        metadata=dict(message.metadata),
        chunks=message.chunks,
        chunks_embedded=message.chunks_embedded,
        chunks_reused=message.chunks_reused,
        update_time=time(message.update_time),
    )


def hit(message: retriever_pb2.Hit) -> nouns.Hit:
    """From the wire."""
    return nouns.Hit(
        span=nouns.Span(
            collection=message.collection,
            document=message.document,
            version=message.version,
            start=message.start,
            end=message.end,
            chunk=message.chunk,
        ),
        text=message.text,
        title=message.title,
        heading_path=tuple(message.heading_path),
        score=message.score,
        dense_score=message.dense_score if message.HasField("dense_score") else None,
        sparse_score=message.sparse_score if message.HasField("sparse_score") else None,
    )


def dataset(message: dataset_pb2.Dataset) -> nouns.Dataset:
    """From the wire."""
    return nouns.Dataset(
        dataset=message.dataset,
        digest=message.digest,
        filename=message.filename,
        format=word(dataset_pb2.DatasetFormat, message.format),
        rows=message.rows,
        size_bytes=message.size_bytes,
        tokens=message.tokens,
        supervised_tokens=message.supervised_tokens,
        max_row_tokens=message.max_row_tokens,
        create_time=time(message.create_time),
    )


def problem(message: dataset_pb2.DatasetProblem) -> nouns.DatasetProblem:
    """From the wire."""
    return nouns.DatasetProblem(line=message.line, field=message.field, message=message.message, fatal=message.fatal)


_OPTIONAL_SETTINGS = (
    "epochs",
    "batch_rows",
    "learning_rate",
    "warmup_ratio",
    "weight_decay",
    "max_gradient_norm",
    "max_row_tokens",
    "seed",
    "checkpoint_steps",
    "max_steps",
)
_OPTIONAL_LORA = ("rank", "alpha", "dropout")


def settings_to_wire(settings: nouns.TrainingSettings) -> training_pb2.TrainingSettings:
    """To the wire; what is None stays unset.  Raises ValueError for an unknown word."""
    message = training_pb2.TrainingSettings(
        method=number(training_pb2.Method, settings.method, "method"),
        objective=number(training_pb2.Objective, settings.objective, "objective"),
        schedule=number(training_pb2.Schedule, settings.schedule, "schedule"),
        lora=training_pb2.LoraSettings(target_modules=settings.lora.target_modules),
    )
    for name in _OPTIONAL_SETTINGS:
        if (value := getattr(settings, name)) is not None:
            setattr(message, name, value)
    for name in _OPTIONAL_LORA:
        if (value := getattr(settings.lora, name)) is not None:
            setattr(message.lora, name, value)
    return message


def settings(message: training_pb2.TrainingSettings) -> nouns.TrainingSettings:
    """From the wire."""
    chosen: dict[str, Any] = {name: _set(message, name) for name in _OPTIONAL_SETTINGS}
    lora: dict[str, Any] = {name: _set(message.lora, name) for name in _OPTIONAL_LORA}
    return nouns.TrainingSettings(
        method=word(training_pb2.Method, message.method),
        objective=word(training_pb2.Objective, message.objective),
        schedule=word(training_pb2.Schedule, message.schedule),
        lora=nouns.LoraSettings(target_modules=tuple(message.lora.target_modules), **lora),
        **chosen,
    )


def _set(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def job(message: training_pb2.Job) -> nouns.Job:
    """From the wire."""
    return nouns.Job(
        job=message.job,
        state=word(training_pb2.JobState, message.state),
        model=message.model,
        alias=message.alias,
        dataset=message.dataset,
        dataset_digest=message.dataset_digest,
        base_digest=message.base_digest,
        settings=settings(message.settings),
        step=message.step,
        total_steps=message.total_steps,
        trained_tokens=message.trained_tokens,
        loss=message.loss,
        version=message.version,
        error_reason=message.error.reason,
        error=message.error.message,
        attempts=message.attempts,
        create_time=time(message.create_time),
        start_time=time(message.start_time),
        end_time=time(message.end_time),
        estimated_end_time=time(message.estimated_end_time),
    )


def job_event(message: training_pb2.JobEvent) -> nouns.JobEvent:
    """From the wire."""
    return nouns.JobEvent(
        sequence=message.sequence,
        kind=word(training_pb2.JobEventKind, message.kind),
        state=word(training_pb2.JobState, message.state),
        step=message.step,
        total_steps=message.total_steps,
        loss=message.loss,
        learning_rate=message.learning_rate,
        gradient_norm=message.gradient_norm,
        trained_tokens=message.trained_tokens,
        message=message.message,
        create_time=time(message.create_time),
    )


def model(message: model_pb2.Model) -> nouns.Model:
    """From the wire."""
    return nouns.Model(
        model=message.model,
        description=message.description,
        etag=message.etag,
        labels=dict(message.labels),
        create_time=time(message.create_time),
        task=message.task,
        keep_last=message.retention.keep_last,
        keep_days=message.retention.keep_days,
        delete_time=time(message.delete_time),
        purge_time=time(message.purge_time),
        card=message.card,
    )


def version(message: model_pb2.Version) -> nouns.Version:
    """From the wire."""
    return nouns.Version(
        model=message.model,
        version=message.version,
        number=message.number,
        kind=word(model_pb2.VersionKind, message.kind),
        base_digest=message.base_digest,
        rank=message.rank,
        files=tuple(nouns.VersionFile(file.filename, file.sha256, file.size_bytes) for file in message.files),
        job=message.lineage.job,
        dataset_digest=message.lineage.dataset_digest,
        parent_version=message.lineage.parent_version,
        config=MessageToDict(message.lineage.config),
        metrics=dict(message.lineage.metrics),
        trained_tokens=message.lineage.trained_tokens,
        create_time=time(message.create_time),
        tags=tuple(message.tags),
        evaluations=tuple(evaluation(measured) for measured in message.evaluations),
        further_parents=tuple(message.lineage.further_parents),
        code_version=message.lineage.code_version,
        base_uri=message.lineage.base_uri,
        delete_time=time(message.delete_time),
        purge_time=time(message.purge_time),
        unservable_reason=message.unservable_reason,
    )


def evaluation(message: model_pb2.Evaluation) -> nouns.Evaluation:
    """From the wire."""
    return nouns.Evaluation(
        metric=message.metric,
        value=message.value,
        dataset_digest=message.dataset_digest,
        dataset_rows=message.dataset_rows,
        note=message.note,
        principal=message.principal,
        create_time=time(message.create_time),
    )


def alias(message: model_pb2.Alias) -> nouns.Alias:
    """From the wire."""
    return nouns.Alias(
        model=message.model,
        alias=message.alias,
        target_version=message.target_version,
        serving_version=message.serving_version,
        state=word(model_pb2.AliasState, message.state),
        reason=message.reason,
        etag=message.etag,
        update_time=time(message.update_time),
        previous_version=message.previous_version,
        canaries=tuple(
            nouns.Canary(
                canary.version, canary.number, canary.percent, word(model_pb2.CanaryState, canary.state), canary.reason
            )
            for canary in message.canaries
        ),
    )


def alias_move(message: model_pb2.AliasMove) -> nouns.AliasMove:
    """From the wire."""
    return nouns.AliasMove(
        number=message.number,
        from_version=message.from_version,
        to_version=message.to_version,
        principal=message.principal,
        create_time=time(message.create_time),
        kind=word(model_pb2.AliasMoveKind, message.kind),
        percent=message.percent,
        reason=message.reason,
        detail=message.detail,
    )


def served_model(message: gateway_pb2.ServedModel) -> nouns.ServedModel:
    """From the wire."""
    return nouns.ServedModel(
        name=message.name,
        kind=word(gateway_pb2.ModelKind, message.kind),
        version=message.version,
        base_digest=message.base_digest,
    )


def engine(message: generator_pb2.Engine) -> nouns.Engine:
    """From the wire."""
    return nouns.Engine(
        engine=message.engine,
        state=word(generator_pb2.EngineState, message.state),
        build=message.build,
        base=message.base,
        base_digest=message.base_digest,
        slots=message.slots,
        max_rank=message.max_rank,
        context_tokens=message.context_tokens,
        running=message.running,
        waiting=message.waiting,
        restarts=message.restarts,
        start_time=time(message.start_time),
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
        tier=word(generator_pb2.Tier, message.tier),
        size_bytes=message.size_bytes,
        in_flight=message.in_flight,
        pinned=message.pinned,
        load_seconds=message.load_seconds,
        priority=word(generator_pb2.Priority, message.priority),
    )


def tier_usage(message: generator_pb2.TierUsage) -> nouns.TierUsage:
    """From the wire."""
    return nouns.TierUsage(
        tier=word(generator_pb2.Tier, message.tier),
        versions=message.versions,
        size_bytes=message.size_bytes,
        limit_versions=message.limit_versions,
        limit_bytes=message.limit_bytes,
        hits=message.hits,
        loads=message.loads,
        evictions=message.evictions,
    )


def api_key(message: access_pb2.Key, secret: str = "") -> nouns.ApiKey:
    """From the wire."""
    return nouns.ApiKey(
        key=message.key,
        tenant=message.tenant,
        display_name=message.display_name,
        roles=tuple(word(access_pb2.Role, role) for role in message.roles),
        revoked=time(message.revoke_time) is not None,
        secret=secret,
    )


def roles_to_wire(roles: Sequence[str]) -> list[Any]:
    """To the wire.  Raises ValueError for an unknown role."""
    return [number(access_pb2.Role, role, "role") for role in roles]
