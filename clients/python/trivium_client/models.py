"""Models, versions and aliases."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from trivium.registry.v1 import registry_pb2

from trivium_client import importing, model_wire, nouns
from trivium_client.errors import NotFoundError, PreconditionError, RequestTimeoutError, UnavailableError
from trivium_client.governance import Governance
from trivium_client.serving import Serving
from trivium_client.transport import WATCH_PATIENCE_SECONDS, download, new_request_id


class Models(Governance, Serving):
    """Versions never change; aliases move between them once a generator is ready."""

    async def list(self, *, show_deleted: bool = False) -> AsyncIterator[nouns.Model]:
        """Every model of the tenant, by id; with `show_deleted` those that can be restored too."""
        request = registry_pb2.ListModelsRequest(show_deleted=show_deleted)
        while True:
            page = await self._transport.call("registry", self._stub().ListModels, request)
            for item in page.models:
                yield model_wire.model(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get(self, model: str) -> nouns.Model:
        """One model.  Raises NotFoundError, which names the nearest."""
        request = registry_pb2.GetModelRequest(model=model)
        response = await self._transport.call("registry", self._stub().GetModel, request)
        return model_wire.model(response.model)

    async def versions(self, model: str, *, show_deleted: bool = False) -> AsyncIterator[nouns.Version]:
        """A model's versions, newest first; with `show_deleted` those that can be restored too."""
        request = registry_pb2.ListVersionsRequest(model=model, show_deleted=show_deleted)
        while True:
            page = await self._transport.call("registry", self._stub().ListVersions, request)
            for item in page.versions:
                yield model_wire.version(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def version(self, version: str, *, model: str = "") -> nouns.Version:
        """One version by number, digest or prefix of it; `model` may be left out for a whole digest."""
        request = registry_pb2.GetVersionRequest(model=model, version=version)
        response = await self._transport.call("registry", self._stub().GetVersion, request)
        return model_wire.version(response.version)

    async def add_version(self, model: str, folder: str | Path, *, base_digest: str) -> nouns.Version:
        """Upload a LoRA adapter in PEFT's layout (adapter_config.json, adapter_model.safetensors).

        `base_digest` is that of the base it was trained on; `engines` lists what serves.
        Raises InvalidRequestError or PreconditionError with the reason when it is refused.
        """
        return await self.add_folder(model, folder, base_digest=base_digest)

    async def add_folder(
        self,
        model: str,
        folder: str | Path,
        *,
        base_digest: str = "",
        lineage: nouns.Lineage | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> nouns.Version:
        """Upload a LoRA adapter in PEFT's layout, a full model or an encoder as transformers saves it: what the folder holds.

        What belongs to none stays.  An encoder's vectors are the mean over a text's tokens, of length 1.  An adapter
        needs `base_digest`; `lineage` says where the version comes from.  `progress` hears (bytes sent, whole bytes).
        Raises InvalidRequestError or PreconditionError with the reason when it is refused, ValueError for another folder.
        """
        return await importing.add_folder(
            self._transport, model, Path(folder), base_digest=base_digest, lineage=lineage, progress=progress
        )

    async def import_model(
        self,
        uri: str,
        model: str,
        *,
        said: Callable[[str], None] | None = None,
        timeout_seconds: float = importing.DONE_TIMEOUT_SECONDS,
    ) -> nouns.Version:
        """Have the registry import `hf:ORG/NAME@REVISION`, or `file:PATH` of its machine; `said` hears how far it is.

        Raises RequestTimeoutError after `timeout_seconds`, or when the registry says nothing of it for two minutes; it
        goes on, and the same asked again waits for it further.
        """
        return await importing.import_model(self._transport, uri, model, said=said, timeout_seconds=timeout_seconds)

    async def merge(
        self,
        version: str,
        *,
        model: str,
        into: str,
        said: Callable[[str], None] | None = None,
        timeout_seconds: float = importing.DONE_TIMEOUT_SECONDS,
    ) -> nouns.Version:
        """Bake an adapter into its base: a full version of the model `into`, with an engine of its own.

        `said` hears how far it is.  Raises InvalidRequestError for what cannot be merged, PreconditionError when the
        registry does not have the base's files, RequestTimeoutError as `import_model`.
        """
        return await importing.merge(self._transport, version, model, into, said=said, timeout_seconds=timeout_seconds)

    async def base_digest(self, name: str) -> str:
        """The digest of a base by name, `base:NAME` or `base:NAME@VERSION`.  Raises NotFoundError."""
        request = registry_pb2.ResolveModelRequest(name=name)
        found = await self._transport.call("registry", self._stub().ResolveModel, request)
        if found.base_digest:
            return found.base_digest
        for engine in await self.engines():
            if found.is_base and found.base in ("", engine.base):
                return engine.base_digest
        raise NotFoundError(f"no base is named {name}; `trivium models list` says what there is")

    async def download(
        self,
        version: str,
        folder: str | Path,
        *,
        model: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> nouns.Version:
        """Write a version's files into a folder, made if it is new; an interrupted download goes on where it stopped.

        A LoRA adapter arrives in PEFT's layout.  `progress` hears (bytes there, whole bytes) of each file.  Raises
        NotFoundError, FileExistsError when a file of that name holds something else.
        """
        found = await self.version(version, model=model)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for file in found.files:
            await download(
                self._transport,
                "registry",
                # A name of a version is a name without a folder; what else a server says is not followed.
                folder / Path(file.filename).name,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                receive=partial(self._pieces, file.sha256),
                progress=progress,
            )
        return found

    async def _pieces(self, sha256: str, offset_bytes: int) -> AsyncIterator[bytes]:
        request = registry_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset_bytes)
        async for message in self._transport.stream("registry", self._stub().DownloadBlob, request):
            yield message.chunk.data

    async def lineage(self, version: str, *, model: str = "") -> Sequence[nouns.Version]:
        """The version, the one that it was trained from, and so on to the base."""
        request = registry_pb2.GetLineageRequest(model=model, version=version)
        response = await self._transport.call("registry", self._stub().GetLineage, request)
        return [model_wire.version(item) for item in response.chain]

    async def aliases(self, model: str = "") -> AsyncIterator[nouns.Alias]:
        """A model's aliases; all of the tenant's without one."""
        request = registry_pb2.ListAliasesRequest(model=model)
        while True:
            page = await self._transport.call("registry", self._stub().ListAliases, request)
            for item in page.aliases:
                yield model_wire.alias(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def alias(self, model: str, alias: str = "prod") -> nouns.Alias:
        """One alias.  Raises NotFoundError."""
        request = registry_pb2.GetAliasRequest(model=model, alias=alias)
        response = await self._transport.call("registry", self._stub().GetAlias, request)
        return model_wire.alias(response.alias)

    async def set_alias(
        self, model: str, version: str, *, alias: str = "prod", etag: str = "", reason: str = ""
    ) -> nouns.Alias:
        """Give an alias a new target; it serves once a generator is ready.

        Gates are asked of every version, also of one that served before; `roll_back` goes past them.  Raises
        ConflictError on a stale `etag`, PreconditionError when a gate of the model refuses the version.
        """
        return await self._point(
            registry_pb2.SetAliasRequest(model=model, alias=alias, target_version=version, etag=etag, reason=reason)
        )

    async def _point(self, request: registry_pb2.SetAliasRequest) -> nouns.Alias:
        request.request_id = new_request_id()
        response = await self._transport.call("registry", self._stub().SetAlias, request)
        return model_wire.alias(response.alias)

    async def roll_back(self, model: str, alias: str = "prod", *, reason: str = "") -> nouns.Alias:
        """Give an alias the version that served before its last move; while a new target waits, the one that serves.

        Twice leads back to where it was.  Gates are not asked, but for those that check rollbacks.  Raises
        NotFoundError, PreconditionError when nothing served before or a gate refuses, ConflictError when somebody
        moves it at the same moment.
        """
        now = await self.alias(model, alias)
        former = now.previous_version if now.target_version == now.serving_version else now.serving_version
        if not former:
            raise PreconditionError(f"{model}@{alias} served nothing before; set it to a version")
        return await self._point(
            registry_pb2.SetAliasRequest(
                model=model, alias=alias, target_version=former, etag=now.etag, reason=reason, rollback=True
            )
        )

    async def delete_alias(self, model: str, alias: str, *, etag: str = "", reason: str = "") -> None:
        """Delete an alias; its versions stay.  Raises NotFoundError, ConflictError on a stale `etag`."""
        request = registry_pb2.DeleteAliasRequest(model=model, alias=alias, etag=etag, reason=reason)
        await self._transport.call("registry", self._stub().DeleteAlias, request)

    async def wait_alias(self, model: str, alias: str = "prod") -> nouns.Alias:
        """Return the alias once its target serves or has failed, by the registry's watch.

        A registry that restarts meanwhile is found again.  Raises NotFoundError, UnavailableError when it stays away
        for two minutes.
        """
        current = await self.alias(model, alias)
        given_up_at = time.monotonic() + WATCH_PATIENCE_SECONDS
        while current.state == "pending":
            try:
                async with aclosing(self._changing(model, alias)) as changes:
                    async for current in changes:
                        given_up_at = time.monotonic() + WATCH_PATIENCE_SECONDS
                        if current.state != "pending":
                            return current
            except (UnavailableError, RequestTimeoutError):
                if time.monotonic() > given_up_at:
                    raise
                await asyncio.sleep(random.uniform(0.2, 2.0))
        return current

    async def _changing(self, model: str, alias: str) -> AsyncGenerator[nouns.Alias]:
        """The alias as it stands now, and after each change; what the watch replays first is history."""
        stream = self._transport.stream("registry", self._stub().Watch, registry_pb2.WatchRequest())
        async with aclosing(stream) as messages:
            caught_up = False
            async for message in messages:
                changed = message.event.alias
                caught_up = caught_up or message.caught_up
                if message.caught_up or (caught_up and (changed.model, changed.alias) == (model, alias)):
                    yield await self.alias(model, alias)

    async def alias_moves(self, model: str, alias: str = "prod") -> AsyncIterator[nouns.AliasMove]:
        """What happened to an alias, newest first: moves, canaries, its deletion, what gates refused."""
        request = registry_pb2.ListAliasMovesRequest(model=model, alias=alias)
        while True:
            page = await self._transport.call("registry", self._stub().ListAliasMoves, request)
            for item in page.moves:
                yield model_wire.alias_move(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
