"""Models, versions and aliases from the wire.  Part of `wire`."""

from __future__ import annotations

from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import model_pb2

from trivium_client import nouns, wire


def model(message: model_pb2.Model) -> nouns.Model:
    """From the wire."""
    return nouns.Model(
        model=message.model,
        description=message.description,
        etag=message.etag,
        labels=dict(message.labels),
        create_time=wire.time(message.create_time),
        task=message.task,
        keep_last=message.retention.keep_last,
        keep_days=message.retention.keep_days,
        delete_time=wire.time(message.delete_time),
        purge_time=wire.time(message.purge_time),
        card=message.card,
        examples=tuple(message.examples),
        fallback=message.fallback,
    )


def version(message: model_pb2.Version) -> nouns.Version:
    """From the wire."""
    return nouns.Version(
        model=message.model,
        version=message.version,
        number=message.number,
        kind=wire.word(model_pb2.VersionKind, message.kind),
        base_digest=message.base_digest,
        rank=message.rank,
        files=tuple(nouns.VersionFile(file.filename, file.sha256, file.size_bytes) for file in message.files),
        job=message.lineage.job,
        dataset_digest=message.lineage.dataset_digest,
        parent_version=message.lineage.parent_version,
        config=MessageToDict(message.lineage.config),
        metrics=dict(message.lineage.metrics),
        trained_tokens=message.lineage.trained_tokens,
        create_time=wire.time(message.create_time),
        tags=tuple(message.tags),
        evaluations=tuple(evaluation(measured) for measured in message.evaluations),
        further_parents=tuple(message.lineage.further_parents),
        code_version=message.lineage.code_version,
        base_uri=message.lineage.base_uri,
        lineage_base_digest=message.lineage.base_digest,
        delete_time=wire.time(message.delete_time),
        purge_time=wire.time(message.purge_time),
        unservable_reason=message.unservable_reason,
        base_version=message.base_version,
        template_digest=message.template_digest,
        tokenizer_digest=message.tokenizer_digest,
        parameters=message.parameters,
        dataset_rows=message.lineage.dataset_rows,
        seed=message.lineage.seed,
        libraries=dict(message.lineage.libraries),
        role=wire.word(model_pb2.EncoderRole, message.encoder_role),
    )


def lineage_to_wire(lineage: nouns.Lineage) -> model_pb2.Lineage:
    """To the wire.  Raises ValueError for a configuration that JSON does not hold."""
    message = model_pb2.Lineage(
        base_digest=lineage.base_digest,
        base_uri=lineage.base_uri,
        parent_version=lineage.parent_version,
        dataset_digest=lineage.dataset_digest,
        dataset_rows=lineage.dataset_rows,
        libraries=lineage.libraries,
        seed=lineage.seed,
        metrics=lineage.metrics,
        code_version=lineage.code_version,
        evaluations=[
            model_pb2.Evaluation(
                metric=it.metric,
                value=it.value,
                dataset_digest=it.dataset_digest,
                dataset_rows=it.dataset_rows,
                note=it.note,
            )
            for it in lineage.evaluations
        ],
    )
    message.config.update(lineage.config)
    return message


def evaluation(message: model_pb2.Evaluation) -> nouns.Evaluation:
    """From the wire."""
    return nouns.Evaluation(
        metric=message.metric,
        value=message.value,
        dataset_digest=message.dataset_digest,
        dataset_rows=message.dataset_rows,
        note=message.note,
        principal=message.principal,
        create_time=wire.time(message.create_time),
    )


def alias(message: model_pb2.Alias) -> nouns.Alias:
    """From the wire."""
    return nouns.Alias(
        model=message.model,
        alias=message.alias,
        target_version=message.target_version,
        serving_version=message.serving_version,
        state=wire.word(model_pb2.AliasState, message.state),
        reason=message.reason,
        etag=message.etag,
        update_time=wire.time(message.update_time),
        previous_version=message.previous_version,
        canaries=tuple(
            nouns.Canary(
                canary.version,
                canary.number,
                canary.percent,
                wire.word(model_pb2.CanaryState, canary.state),
                canary.reason,
            )
            for canary in message.canaries
        ),
        kind=wire.word(model_pb2.VersionKind, message.kind),
    )


def alias_move(message: model_pb2.AliasMove) -> nouns.AliasMove:
    """From the wire."""
    return nouns.AliasMove(
        number=message.number,
        from_version=message.from_version,
        to_version=message.to_version,
        principal=message.principal,
        create_time=wire.time(message.create_time),
        kind=wire.word(model_pb2.AliasMoveKind, message.kind),
        percent=message.percent,
        reason=message.reason,
        detail=message.detail,
    )
