"""The registry: tenants' own bases come from it, trained adapters go to it, with where they came from.

Every call that publishes carries an id derived from the job's, and files are named by their digest: however
often this is begun again, a job makes one version.  The domain knows the Protocols
`publisher.Publisher` and `bases.Registry`; this file knows the peer.
"""

import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc

from services.chassis.errors import Code, Failure, Reason
from services.chassis.runtime import Runtime
from services.chassis.status import PeerFailure, from_rpc_error
from services.chassis.streams import Chunk, send
from services.trainer.bases import OwnBase
from services.trainer.job import Job
from services.trainer.publisher import PublishPostponed, PublishRefused
from services.trainer.starts import OwnAdapter
from services.trainer.wire_lineage import lineage as lineage_of
from services.trainer.work import RESULT_MANIFEST

_TRY_AGAIN = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.ABORTED,
        # A quota or a full disk passes; what was trained must outlive it.
        Code.RESOURCE_EXHAUSTED,
        Code.UNAUTHENTICATED,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.CANCELLED,
    }
)


_HIDDEN = frozenset({"field", "reason", "correlation_id", "retry_after_seconds", "violations"})


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    sha256: str
    size_bytes: int


class RegistryPublisher:
    """Publishes over the registry's RPCs, acting for the job's tenant."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._registry = registry_pb2_grpc.RegistryServiceStub(runtime.channel("registry"))

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        """As Publisher.publish."""
        try:
            async with self._runtime.acting_for(job.tenant, on_behalf_of=job.principal):
                return await self._publish(job, result, lineage, mark)
        except Failure as why:
            # Access refuses to have us act for the tenant, or is away; or we ourselves are not ready.
            if why.code in _TRY_AGAIN:
                raise PublishPostponed(why.sentence) from why
            raise PublishRefused(why.reason.name, why.sentence, why) from why
        except grpc.RpcError as error:
            answer = from_rpc_error(error)
            if answer.code in _TRY_AGAIN and answer.reason != Reason.BLOB_TOO_LARGE.name:
                raise PublishPostponed(answer.message) from error
            failure = _failure(answer, field="job")
            raise PublishRefused(answer.reason or answer.code.name, answer.message, failure) from error

    async def _publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str) -> str:
        files = await self._runtime.blocking(_described, result)
        for file in files:
            await self._upload(file)
        version = model_pb2.Version(
            model=job.order.model,
            **_kind(job),
            files=[
                model_pb2.VersionFile(filename=file.path.name, sha256=file.sha256, size_bytes=file.size_bytes)
                for file in files
            ],
            lineage=lineage_of(job, json.loads((result / RESULT_MANIFEST).read_text()), lineage),
        )
        created = await self._create(job, version, f"version{mark}")
        if job.order.alias:
            await self._point(job, created, mark)
        return created

    async def _create(self, job: Job, version: model_pb2.Version, effect: str) -> str:
        request = registry_pb2.CreateVersionRequest(version=version, request_id=derived_id(job.job, effect))
        try:
            created: str = (await self._registry.CreateVersion(request)).version.version
        except grpc.RpcError as error:
            parent_deleted = from_rpc_error(error).reason == Reason.VERSION_NOT_FOUND.name
            if version.kind != model_pb2.VERSION_KIND_FULL or not version.lineage.parent_version or not parent_deleted:
                raise
            # A full model needs its base no more, and what was trained must outlive it: the digest says what it began as.
            version.lineage.ClearField("parent_version")
            return await self._create(job, version, f"{effect}-without-parent")
        return created

    async def _point(self, job: Job, created: str, mark: str) -> None:
        request = registry_pb2.SetAliasRequest(
            model=job.order.model,
            alias=job.order.alias,
            target_version=created,
            request_id=derived_id(job.job, f"alias{mark}"),
            reason=f"trained by the job {job.job}{f', {job.progress.step} steps of it' if mark else ''}",
        )
        try:
            await self._registry.SetAlias(request)
        except grpc.RpcError as error:
            # The result is a version all the same; the refusal stands among the alias's moves, for whoever evaluates it.
            if from_rpc_error(error).reason != Reason.GATE_NOT_PASSED.name:
                raise
            self._runtime.log.info("alias_gated", job=job.job, model=job.order.model, version=created)

    async def _upload(self, file: _File) -> None:
        reached = await self._registry.GetUpload(registry_pb2.GetUploadRequest(sha256=file.sha256))
        if reached.status.complete:
            return
        await self._registry.UploadBlob(_parts(file, reached.status.committed_bytes))


async def _parts(file: _File, offset: int) -> AsyncIterator[registry_pb2.UploadBlobRequest]:
    yield registry_pb2.UploadBlobRequest(
        header=transfer_pb2.UploadHeader(
            filename=file.path.name, size_bytes=file.size_bytes, sha256=file.sha256, resume_offset_bytes=offset
        )
    )
    async for piece in send(file.path, offset):
        yield registry_pb2.UploadBlobRequest(chunk=transfer_pb2.Chunk(offset_bytes=piece.offset_bytes, data=piece.data))


def derived_id(job: str, effect: str) -> str:
    """Return the request id of one effect of a job: a UUID, the same every time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"trivium:job:{job}:{effect}"))


def _kind(job: Job) -> dict[str, Any]:
    """What the version is: an adapter tied to its base, or a full model, which the registry names by its own files."""
    if job.order.settings.method.makes_adapter:
        return {"kind": model_pb2.VERSION_KIND_LORA, "base_digest": job.order.base_digest}
    return {"kind": model_pb2.VERSION_KIND_FULL}


def _described(result: Path) -> list[_File]:
    return [
        _File(path, _sha256(path), path.stat().st_size)
        for path in sorted(result.iterdir())
        if path.name != RESULT_MANIFEST
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _answers() -> Iterator[None]:
    """Turn what the registry refuses with, inside the block, into a Failure."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _failure(from_rpc_error(error)) from error


def _failure(peer: PeerFailure, field: str = "base") -> Failure:
    reason = Reason.__members__.get(peer.reason)
    if reason is None or reason.value.code in (Code.UNAUTHENTICATED, Code.INTERNAL):
        return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=1.0, service="registry")
    variables: dict[str, Any] = {name: value for name, value in peer.variables.items() if name not in _HIDDEN}
    named = field if reason is Reason.FIELD_INVALID else None
    return Failure(reason, retry_after_seconds=peer.retry_after_seconds, field=named, **variables)


class RegistryBases:
    """Asks under the identity of whoever is served, or of the tenant that is acted for."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._stub = registry_pb2_grpc.RegistryServiceStub(runtime.channel("registry"))

    async def base(self, name: str) -> OwnBase | None:
        """As bases.Registry.base."""
        try:
            with _answers():
                found = await self._stub.ResolveModel(registry_pb2.ResolveModelRequest(name=f"base:{name}"))
        except Failure as failure:
            if failure.code is Code.NOT_FOUND:
                return None
            raise
        return await self.own(found.version) if found.version else None

    async def own(self, version: str) -> OwnBase:
        """As bases.Registry.own."""
        with _answers():
            answer = await self._stub.GetVersion(registry_pb2.GetVersionRequest(version=version))
        found: model_pb2.Version = answer.version
        return OwnBase(f"{found.model}@{found.number}", found.version, found.manifest)

    async def adapter(self, name: str) -> OwnAdapter:
        """As starts.Adapters.adapter."""
        with _answers():
            version = name
            if not name.startswith("sha256:"):
                resolved = await self._stub.ResolveModel(registry_pb2.ResolveModelRequest(name=name))
                version = resolved.version
            found = (await self._stub.GetVersion(registry_pb2.GetVersionRequest(version=version))).version
        if found.kind == model_pb2.VERSION_KIND_ENCODER:
            problem = f"{name} is an encoder, and training goes on from adapters alone"
            raise Failure(Reason.FIELD_INVALID, field="start_version", problem=problem)
        if found.kind != model_pb2.VERSION_KIND_LORA:
            problem = f"{name} is a full model; name it as the base to go on from it"
            raise Failure(Reason.FIELD_INVALID, field="start_version", problem=problem)
        return OwnAdapter(found.version, found.base_digest, found.manifest)

    async def download(self, sha256: str, offset: int) -> AsyncIterator[Chunk]:
        """As bases.Registry.download."""
        request = registry_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)
        with _answers():
            async for response in self._stub.DownloadBlob(request):
                yield response.chunk

    def acting_for(self, tenant: str, principal: str) -> AbstractAsyncContextManager[object]:
        """As bases.Registry.acting_for."""
        return self._runtime.acting_for(tenant, on_behalf_of=principal)
