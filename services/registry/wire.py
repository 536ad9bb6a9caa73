"""Between protobuf and the domain of the registry: with the other ``wire`` files, the only ones that know both."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from trivium.common.v1 import transfer_pb2
from trivium.registry.v1 import model_pb2, registry_pb2

from services.chassis.context import RequestContext, Role
from services.chassis.errors import Failure, Reason
from services.registry.alias_view import Alias
from services.registry.callers import Caller
from services.registry.downloads import Piece
from services.registry.events import Beat
from services.registry.manifests import Evaluation, File, Lineage, Manifest
from services.registry.measurements import Recorded
from services.registry.models import Model, ModelChange, Retention
from services.registry.resolution import Resolution
from services.registry.uploads import Announcement, Progress
from services.registry.version_view import Version
from services.registry.wire_aliases import alias
from services.registry.wire_kinds import KINDS, KINDS_BACK, ROLES
from services.registry.wire_times import maybe_time, time


def caller(request: RequestContext) -> Caller:
    """Who asks.  Role service reads across tenants."""
    return Caller(request.tenant_id, request.principal_id, everywhere=request.has(Role.SERVICE))


def model(value: Model, *, whole: bool = True) -> model_pb2.Model:
    """A model as the API shows it; a list has no cards, which together would be too much for an answer."""
    return model_pb2.Model(
        name=f"tenants/{value.tenant}/models/{value.model}",
        model=value.model,
        description=value.description,
        create_time=time(value.created_at),
        etag=value.etag,
        labels=dict(value.labels),
        card=value.card if whole else "",
        task=value.task,
        retention=model_pb2.Retention(keep_last=value.retention.keep_last, keep_days=value.retention.keep_days),
        delete_time=maybe_time(value.deleted_at),
        purge_time=maybe_time(value.purge_at),
        examples=value.examples if whole else (),
        fallback=value.fallback,
    )


def model_change(request: registry_pb2.UpdateModelRequest) -> ModelChange:
    """What an update asks for."""
    return ModelChange(
        description=request.description if request.HasField("description") else None,
        labels=dict(request.labels) if request.replace_labels else None,
        etag=request.etag,
        card=request.card if request.HasField("card") else None,
        task=request.task if request.HasField("task") else None,
        retention=_retention(request.retention) if request.HasField("retention") else None,
        examples=tuple(request.examples) if request.replace_examples else None,
        fallback=request.fallback if request.HasField("fallback") else None,
    )


def new_model(request: registry_pb2.CreateModelRequest) -> ModelChange:
    """What a new model is to be."""
    return ModelChange(
        description=request.description,
        labels=dict(request.labels),
        card=request.card,
        task=request.task,
        retention=_retention(request.retention),
    )


def _retention(value: model_pb2.Retention) -> Retention:
    return Retention(value.keep_last, value.keep_days)


def draft(asking: Caller, value: model_pb2.Version) -> Manifest:
    """The manifest that a request asks for; output-only fields are ignored."""
    origin = value.lineage
    return Manifest(
        tenant=asking.tenant,
        model=value.model,
        kind=KINDS_BACK[value.kind],
        base_digest=value.base_digest,
        template_digest=value.template_digest,
        tokenizer_digest=value.tokenizer_digest,
        files=tuple(File(item.filename, item.sha256, item.size_bytes) for item in value.files),
        lineage=Lineage(
            job=origin.job,
            dataset_digest=origin.dataset_digest,
            dataset_rows=origin.dataset_rows,
            parent_version=origin.parent_version,
            config=_whole(MessageToDict(origin.config)),
            libraries=dict(origin.libraries),
            seed=origin.seed,
            metrics=dict(origin.metrics),
            trained_tokens=origin.trained_tokens,
            code_version=origin.code_version,
            evaluations=tuple(evaluation(measured) for measured in origin.evaluations),
            further_parents=tuple(origin.further_parents),
            base_uri=origin.base_uri,
            base_digest=origin.base_digest,
        ),
    )


def evaluation(value: model_pb2.Evaluation) -> Evaluation:
    """A measurement; output-only fields are ignored."""
    return Evaluation(value.metric, value.value, value.dataset_digest, value.dataset_rows, value.note)


def _whole(value: Any) -> Any:
    """Struct knows doubles only: write 8.0 as the 8 that people gave."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return value


def version(value: Version, *, whole: bool = False) -> model_pb2.Version:
    """A version as the API shows it; ``whole`` adds the manifest's text."""
    manifest = value.manifest
    return model_pb2.Version(
        name=f"tenants/{value.tenant}/models/{value.model}/versions/{value.version}",
        model=value.model,
        version=value.version,
        number=value.number,
        kind=KINDS[manifest.kind],
        base_digest=manifest.base_digest,
        files=[
            model_pb2.VersionFile(filename=file.filename, sha256=file.sha256, size_bytes=file.size_bytes)
            for file in manifest.files
        ],
        lineage=_lineage(manifest.lineage),
        create_time=time(value.created_at),
        rank=manifest.rank,
        parameters=manifest.parameters,
        template_digest=manifest.template_digest,
        tokenizer_digest=manifest.tokenizer_digest,
        manifest=value.canonical if whole else "",
        unservable_reason=value.unservable_reason,
        base_version=value.base_version,
        encoder_role=ROLES[manifest.role],
        tags=value.tags,
        evaluations=[recorded(measured) for measured in value.evaluations],
        delete_time=maybe_time(value.deleted_at),
        purge_time=maybe_time(value.purge_at),
    )


def recorded(value: Recorded) -> model_pb2.Evaluation:
    """A measurement as it is kept."""
    message = _evaluation(value.evaluation)
    message.principal = value.principal
    message.create_time.CopyFrom(time(value.created_at))
    return message


def _evaluation(value: Evaluation) -> model_pb2.Evaluation:
    return model_pb2.Evaluation(
        metric=value.metric,
        value=value.value,
        dataset_digest=value.dataset_digest,
        dataset_rows=value.dataset_rows,
        note=value.note,
    )


def _lineage(value: Lineage) -> model_pb2.Lineage:
    return model_pb2.Lineage(
        job=value.job,
        dataset_digest=value.dataset_digest,
        dataset_rows=value.dataset_rows,
        parent_version=value.parent_version,
        config=_struct(value.config),
        libraries=dict(value.libraries),
        seed=value.seed,
        metrics=dict(value.metrics),
        trained_tokens=value.trained_tokens,
        code_version=value.code_version,
        evaluations=[_evaluation(measured) for measured in value.evaluations],
        further_parents=value.further_parents,
        base_uri=value.base_uri,
        base_digest=value.base_digest,
    )


def _struct(value: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update(dict(value))
    return struct


def upload_status(value: Progress) -> transfer_pb2.UploadStatus:
    """How far an upload has come."""
    return transfer_pb2.UploadStatus(
        sha256=value.sha256, committed_bytes=value.committed_bytes, complete=value.complete
    )


async def announcement(requests: AsyncIterator[registry_pb2.UploadBlobRequest]) -> Announcement:
    """The header that opens an upload.  Raises REQUEST_STREAM_EMPTY, FIELD_INVALID."""
    async for request in requests:
        if request.WhichOneof("part") != "header":
            raise Failure(Reason.FIELD_INVALID, field="header", problem="the first message of an upload is its header")
        header = request.header
        return Announcement(header.filename, header.size_bytes, header.sha256, header.resume_offset_bytes)
    raise Failure(Reason.REQUEST_STREAM_EMPTY)


async def chunks(requests: AsyncIterable[registry_pb2.UploadBlobRequest]) -> AsyncIterator[transfer_pb2.Chunk]:
    """The chunks behind the header.  Raises FIELD_INVALID."""
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise Failure(Reason.FIELD_INVALID, field="chunk", problem="only chunks follow the header")
        yield request.chunk


def piece(value: Piece) -> registry_pb2.DownloadBlobResponse:
    """A piece of a download."""
    return registry_pb2.DownloadBlobResponse(
        chunk=transfer_pb2.Chunk(offset_bytes=value.offset_bytes, data=value.content), size_bytes=value.size_bytes
    )


def resolution(value: Resolution) -> registry_pb2.ResolveModelResponse:
    """What a name resolves to."""
    return registry_pb2.ResolveModelResponse(
        is_base=value.is_base,
        base=value.base,
        model=value.model,
        version=value.version,
        number=value.number,
        kind=KINDS[value.kind],
        alias=value.alias,
        base_digest=value.base_digest,
        resolved_name=value.resolved_name,
        canary=value.canary,
        fallback=value.fallback,
        prompt_format=value.prompt_format,
    )


def beat(value: Beat) -> registry_pb2.WatchResponse:
    """One message of a watch."""
    happened = value.event
    if happened is None:
        return registry_pb2.WatchResponse(caught_up=value.caught_up)
    event = model_pb2.Event(
        sequence=happened.sequence,
        kind=model_pb2.EventKind.Value(f"EVENT_KIND_{happened.kind.value}"),
        tenant=happened.tenant,
        model=happened.model,
        version=happened.version,
        create_time=time(happened.created_at),
    )
    if happened.alias is not None:
        event.alias.CopyFrom(alias(Alias.restore(happened.alias)))
    return registry_pb2.WatchResponse(event=event, caught_up=value.caught_up)
