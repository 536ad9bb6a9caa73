"""The registry over its stub."""

import grpc
from trivium.registry.v1 import model_pb2, registry_pb2, registry_pb2_grpc

from gateway.auto.choosing import Candidate, Candidates
from gateway.peers import failures
from gateway.routing import FullVersion, ModelKind, Route, ServedAlias

NAME = "registry"
_PAGE_SIZE = 1000
# For those who read a model's changes.
_WHY = "deleted by name at the gateway"
_KINDS = {
    model_pb2.VERSION_KIND_LORA: ModelKind.ADAPTER,
    model_pb2.VERSION_KIND_FULL: ModelKind.FULL,
    model_pb2.VERSION_KIND_ENCODER: ModelKind.ENCODER,
}


class RemoteRegistry:
    """Implements :class:`gateway.models.peers.Registry` and :class:`gateway.auto.choosing.Catalogue`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(channel)

    async def resolve(self, name: str, sticky_key: str = "") -> Route:
        """As the Protocol says."""
        with failures.of(NAME, {"name": "model"}):
            answer = await self._stub.ResolveModel(registry_pb2.ResolveModelRequest(name=name, sticky_key=sticky_key))
        kind = ModelKind.BASE if answer.is_base else _KINDS.get(answer.kind, ModelKind.UNSPECIFIED)
        return Route(
            requested=name,
            resolved=answer.resolved_name or name,
            kind=kind,
            version=answer.version,
            base=answer.base,
            base_digest=answer.base_digest,
            alias=answer.alias,
            number=answer.number,
            canary=answer.canary,
            fallback=answer.fallback,
            prompt_format=answer.prompt_format,
        )

    async def aliases(self) -> list[ServedAlias]:
        """As the Protocol says; pages are followed to the end."""
        found: list[ServedAlias] = []
        token = ""
        while True:
            request = registry_pb2.ListAliasesRequest(page_size=_PAGE_SIZE, page_token=token)
            with failures.of(NAME):
                answer = await self._stub.ListAliases(request)
            found += [
                ServedAlias(item.model, item.alias, item.serving_version, item.update_time.seconds)
                for item in answer.aliases
                if item.serving_version and item.kind != model_pb2.VERSION_KIND_ENCODER
            ]
            token = answer.next_page_token
            if not token:
                return found

    async def full_versions(self) -> list[FullVersion]:
        """As the Protocol says; pages are followed to the end."""
        found: list[FullVersion] = []
        request = registry_pb2.SearchVersionsRequest(kind=model_pb2.VERSION_KIND_FULL, page_size=_PAGE_SIZE)
        while True:
            with failures.of(NAME):
                answer = await self._stub.SearchVersions(request)
            each = [item.version for item in answer.found]
            found += [FullVersion(item.model, item.version, item.create_time.seconds) for item in each]
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def delete_alias(self, model: str, alias: str) -> None:
        """As the Protocol says."""
        request = registry_pb2.DeleteAliasRequest(model=model, alias=alias, reason=_WHY)
        with failures.of(NAME):
            await self._stub.DeleteAlias(request)

    async def delete_version(self, model: str, version: str) -> None:
        """As the Protocol says."""
        request = registry_pb2.DeleteVersionRequest(model=model, version=version, force=True, reason=_WHY)
        with failures.of(NAME):
            await self._stub.DeleteVersion(request)

    async def candidates(self, etag: str) -> Candidates | None:
        """As the Protocol says; a list that changes between its pages is begun anew."""
        request = registry_pb2.ListCandidatesRequest(etag=etag, page_size=_PAGE_SIZE)
        found: list[Candidate] = []
        listed = ""
        while True:
            with failures.of(NAME):
                answer = await self._stub.ListCandidates(request)
            if answer.unchanged:
                return None
            if listed and answer.etag != listed:
                found, listed = [], ""
                request = registry_pb2.ListCandidatesRequest(page_size=_PAGE_SIZE)
                continue
            listed = answer.etag
            found += [Candidate(item.model, item.description, tuple(item.examples)) for item in answer.candidates]
            if not answer.next_page_token:
                return Candidates(listed, tuple(found))
            request = registry_pb2.ListCandidatesRequest(page_size=_PAGE_SIZE, page_token=answer.next_page_token)
