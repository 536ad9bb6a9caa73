"""The RPCs of the registry: wire to domain, call, domain to wire."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from trivium.registry.v1 import registry_pb2 as pb
from trivium.registry.v1 import registry_pb2_grpc

from services.chassis import paging
from services.chassis.context import current
from services.chassis.idempotency import key_for
from services.chassis.interceptors.call import MethodPolicy
from services.registry import wire, wire_aliases, wire_finding
from services.registry.callers import Caller
from services.registry.replay import Replay
from services.registry.verbs import Verbs

POLICIES = {
    # The inspection of a large model reads all of it.
    "CreateVersion": MethodPolicy(default_seconds=180),
    "Watch": MethodPolicy(long_lived=True),
}


def _caller() -> Caller:
    return wire.caller(current())


class RegistryServicer(registry_pb2_grpc.RegistryServiceServicer):
    """Serves the verbs."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def CreateModel(self, request: pb.CreateModelRequest, context: Any) -> pb.CreateModelResponse:
        wish = wire.new_model(request)
        model = await self._do.models.create(_caller(), request.model, wish, Replay(key_for(request)))
        return pb.CreateModelResponse(model=wire.model(model))

    async def GetModel(self, request: pb.GetModelRequest, context: Any) -> pb.GetModelResponse:
        return pb.GetModelResponse(model=wire.model(await self._do.models.get(_caller(), request.model)))

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        size = paging.size_of(request.page_size)
        (after,) = paging.decode(request.page_token, [str]) or ("",)
        found = await self._do.models.page(_caller(), str(after), size + 1, deleted=request.show_deleted)
        more = paging.encode([found[size - 1].model]) if len(found) > size else ""
        return pb.ListModelsResponse(
            models=[wire.model(item, whole=False) for item in found[:size]], next_page_token=more
        )

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Any) -> pb.UpdateModelResponse:
        model = await self._do.models.update(_caller(), request.model, wire.model_change(request))
        return pb.UpdateModelResponse(model=wire.model(model))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Any) -> pb.DeleteModelResponse:
        gone = await self._do.deletion.delete_model(_caller(), request.model, wire_finding.deletion(request))
        self._do.feed.wake()
        return pb.DeleteModelResponse(model=None if gone is None else wire.model(gone))

    async def ListModelChanges(self, request: pb.ListModelChangesRequest, context: Any) -> pb.ListModelChangesResponse:
        size = paging.size_of(request.page_size)
        before = paging.number(request.page_token, request.model)
        found = await self._do.models.changes(_caller(), request.model, before, size + 1)
        more = paging.encode([found[size - 1].number], request.model) if len(found) > size else ""
        shown = [wire_finding.change(item) for item in found[:size]]
        return pb.ListModelChangesResponse(changes=shown, next_page_token=more)

    async def RestoreModel(self, request: pb.RestoreModelRequest, context: Any) -> pb.RestoreModelResponse:
        model = await self._do.deletion.restore_model(_caller(), request.model, request.reason)
        self._do.feed.wake()
        return pb.RestoreModelResponse(model=wire.model(model))

    async def UploadBlob(self, request: AsyncIterator[pb.UploadBlobRequest], context: Any) -> pb.UploadBlobResponse:
        announced = await wire.announcement(request)
        progress = await self._do.uploads.receive(_caller(), announced, wire.chunks(request))
        return pb.UploadBlobResponse(status=wire.upload_status(progress))

    async def GetUpload(self, request: pb.GetUploadRequest, context: Any) -> pb.GetUploadResponse:
        return pb.GetUploadResponse(
            status=wire.upload_status(await self._do.uploads.progress(_caller(), request.sha256))
        )

    async def CreateVersion(self, request: pb.CreateVersionRequest, context: Any) -> pb.CreateVersionResponse:
        caller = _caller()
        draft = wire.draft(caller, request.version)
        version = await self._do.publishing.publish_within(self._do.checks, caller, draft, Replay(key_for(request)))
        self._do.feed.wake()
        return pb.CreateVersionResponse(version=wire.version(version, whole=True))

    async def GetVersion(self, request: pb.GetVersionRequest, context: Any) -> pb.GetVersionResponse:
        version = await self._do.versions.get(_caller(), request.model, request.version)
        return pb.GetVersionResponse(version=wire.version(version, whole=True))

    async def ListVersions(self, request: pb.ListVersionsRequest, context: Any) -> pb.ListVersionsResponse:
        before, limit = paging.number(request.page_token, request.model), paging.size_of(request.page_size) + 1
        deleted = request.show_deleted
        found = await self._do.versions.page(_caller(), request.model, before, limit, deleted=deleted)
        return wire_finding.listed(request, found)

    async def DeleteVersion(self, request: pb.DeleteVersionRequest, context: Any) -> pb.DeleteVersionResponse:
        wish = wire_finding.deletion(request)
        gone = await self._do.deletion.delete_version(_caller(), request.model, request.version, wish)
        self._do.feed.wake()
        return pb.DeleteVersionResponse(version=None if gone is None else wire.version(gone))

    async def RestoreVersion(self, request: pb.RestoreVersionRequest, context: Any) -> pb.RestoreVersionResponse:
        why = request.reason
        version = await self._do.deletion.restore_version(_caller(), request.model, request.version, why)
        self._do.feed.wake()
        return pb.RestoreVersionResponse(version=wire.version(version, whole=True))

    async def TagVersion(self, request: pb.TagVersionRequest, context: Any) -> pb.TagVersionResponse:
        tagged = await self._do.annotations.tag(_caller(), request.model, request.version, request.add, request.remove)
        return pb.TagVersionResponse(version=wire.version(tagged))

    async def RecordEvaluation(self, request: pb.RecordEvaluationRequest, context: Any) -> pb.RecordEvaluationResponse:
        kept = await self._do.annotations.record(
            _caller(), request.model, request.version, wire.evaluation(request.evaluation), Replay(key_for(request))
        )
        return pb.RecordEvaluationResponse(evaluation=wire.recorded(kept))

    async def SearchVersions(self, request: pb.SearchVersionsRequest, context: Any) -> pb.SearchVersionsResponse:
        wanted, after = wire_finding.wanted(request), wire_finding.position(request)
        found = await self._do.search.page(_caller(), wanted, after, paging.size_of(request.page_size) + 1)
        return wire_finding.found(request, found)

    async def DownloadBlob(
        self, request: pb.DownloadBlobRequest, context: Any
    ) -> AsyncIterator[pb.DownloadBlobResponse]:
        async with aclosing(self._do.downloads.read(_caller(), request.sha256, request.offset_bytes)) as pieces:
            async for piece in pieces:
                yield wire.piece(piece)

    async def SetAlias(self, request: pb.SetAliasRequest, context: Any) -> pb.SetAliasResponse:
        alias = await self._do.aliases.assign(
            _caller(), request.model, request.alias, wire_aliases.wish(request), Replay(key_for(request))
        )
        self._do.feed.wake()
        return pb.SetAliasResponse(alias=wire_aliases.alias(alias))

    async def GetAlias(self, request: pb.GetAliasRequest, context: Any) -> pb.GetAliasResponse:
        alias = await self._do.aliases.get(_caller(), request.model, request.alias)
        return pb.GetAliasResponse(alias=wire_aliases.alias(alias))

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Any) -> pb.ListAliasesResponse:
        after = paging.decode(request.page_token, [str, str, str], request.model) or ()
        limit = paging.size_of(request.page_size) + 1
        found = await self._do.aliases.page(_caller(), request.model, tuple(map(str, after)), limit)
        return wire_aliases.listed(request, found)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Any) -> pb.DeleteAliasResponse:
        await self._do.aliases.delete(_caller(), request.model, request.alias, request.etag, request.reason)
        self._do.feed.wake()
        return pb.DeleteAliasResponse()

    async def ListAliasMoves(self, request: pb.ListAliasMovesRequest, context: Any) -> pb.ListAliasMovesResponse:
        size = paging.size_of(request.page_size)
        before = paging.number(request.page_token, request.model, request.alias)
        found = await self._do.aliases.moves(_caller(), request.model, request.alias, before, size + 1)
        more = paging.encode([found[size - 1].number], request.model, request.alias) if len(found) > size else ""
        return pb.ListAliasMovesResponse(moves=[wire_aliases.move(item) for item in found[:size]], next_page_token=more)

    async def ReportReadiness(self, request: pb.ReportReadinessRequest, context: Any) -> pb.ReportReadinessResponse:
        changed = await self._do.aliases.report(wire_aliases.report(request))
        self._do.feed.wake()
        return pb.ReportReadinessResponse(changed=paging.fitting([wire_aliases.alias(alias) for alias in changed]))

    async def ResolveModel(self, request: pb.ResolveModelRequest, context: Any) -> pb.ResolveModelResponse:
        return wire.resolution(await self._do.resolver.resolve(_caller(), request.name, request.sticky_key))

    async def ListCandidates(self, request: pb.ListCandidatesRequest, context: Any) -> pb.ListCandidatesResponse:
        (after,) = paging.decode(request.page_token, [str]) or ("",)
        limit = paging.size_of(request.page_size) + 1
        return wire_finding.candidates(
            request, await self._do.candidates.page(_caller(), request.etag, str(after), limit)
        )

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        async with aclosing(self._do.feed.watch(_caller(), request.after_sequence)) as beats:
            async for beat in beats:
                yield wire.beat(beat)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Any) -> pb.GetLineageResponse:
        return wire_finding.family(await self._do.lineage.around(_caller(), request.model, request.version))

    async def SetCanary(self, request: pb.SetCanaryRequest, context: Any) -> pb.SetCanaryResponse:
        alias = await self._do.canaries.set(
            _caller(), request.model, request.alias, wire_aliases.canary_wish(request), Replay(key_for(request))
        )
        self._do.feed.wake()
        return pb.SetCanaryResponse(alias=wire_aliases.alias(alias))

    async def CreateGate(self, request: pb.CreateGateRequest, context: Any) -> pb.CreateGateResponse:
        policy, replay = wire_aliases.policy(request.gate), Replay(key_for(request))
        gate = await self._do.gates.create(_caller(), request.model, request.gate.gate, policy, replay)
        return pb.CreateGateResponse(gate=wire_aliases.gate(gate))

    async def ListGates(self, request: pb.ListGatesRequest, context: Any) -> pb.ListGatesResponse:
        size = paging.size_of(request.page_size)
        (after,) = paging.decode(request.page_token, [str], request.model) or ("",)
        found = await self._do.gates.page(_caller(), request.model, str(after), size + 1)
        more = paging.encode([found[size - 1].gate], request.model) if len(found) > size else ""
        return pb.ListGatesResponse(gates=[wire_aliases.gate(item) for item in found[:size]], next_page_token=more)

    async def DeleteGate(self, request: pb.DeleteGateRequest, context: Any) -> pb.DeleteGateResponse:
        await self._do.gates.delete(_caller(), request.model, request.gate)
        return pb.DeleteGateResponse()

    async def MergeVersion(self, request: pb.MergeVersionRequest, context: Any) -> pb.MergeVersionResponse:
        version = await self._do.merges.run(
            _caller(), request.model, request.version, request.target_model, Replay(key_for(request))
        )
        self._do.feed.wake()
        return pb.MergeVersionResponse(version=wire.version(version, whole=True))

    async def ImportModel(self, request: pb.ImportModelRequest, context: Any) -> pb.ImportModelResponse:
        version = await self._do.importing.run(_caller(), request.uri, request.model, Replay(key_for(request)))
        self._do.feed.wake()
        return pb.ImportModelResponse(version=wire.version(version, whole=True))
