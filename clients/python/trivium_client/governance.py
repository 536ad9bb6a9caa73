"""What is decided about models and versions once they are there; every call is one of `models`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING

from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.registry.v1.registry_pb2_grpc import RegistryServiceStub

from trivium_client import governance_nouns, governance_wire, model_wire, nouns
from trivium_client.transport import Transport, new_request_id

if TYPE_CHECKING:
    from trivium.registry.v1.registry_pb2_grpc import RegistryServiceAsyncStub


class Governance:
    """Cards, tags, measurements, gates, canaries, deletion: the part of `Models` that changes no weights."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> RegistryServiceAsyncStub:
        stub: RegistryServiceAsyncStub = self._transport.stub("registry", RegistryServiceStub)
        return stub

    async def update(
        self,
        model: str,
        *,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        card: str | None = None,
        task: str | None = None,
        keep_last: int | None = None,
        keep_days: int | None = None,
        examples: Iterable[str] | None = None,
        fallback: str | None = None,
        etag: str = "",
    ) -> nouns.Model:
        """Change what is said of a model and which versions are kept; None leaves a field, 0 keeps all.

        With both bounds set a version goes only when it exceeds both.  `examples` are questions that it is for, all of
        them: what `model="auto"` goes by, beside the description.  `fallback` names the model that answers where no
        version of this one can: base, base:NAME or a model's name; empty ends it.  Raises NotFoundError,
        InvalidRequestError, ConflictError on a stale `etag`.
        """
        request = registry_pb2.UpdateModelRequest(
            model=model,
            description=description,
            card=card,
            task=task,
            etag=etag,
            replace_labels=labels is not None,
            examples=examples or (),
            replace_examples=examples is not None,
            fallback=fallback,
        )
        request.labels.update(labels or {})
        if keep_last is not None or keep_days is not None:
            # The policy is replaced whole, so the bound that is not named is read first.
            message = registry_pb2.GetModelRequest(model=model)
            now = (await self._transport.call("registry", self._stub().GetModel, message)).model.retention
            request.retention.keep_last = now.keep_last if keep_last is None else keep_last
            request.retention.keep_days = now.keep_days if keep_days is None else keep_days
        response = await self._transport.call("registry", self._stub().UpdateModel, request)
        return model_wire.model(response.model)

    async def tag(
        self, version: str, *, model: str = "", add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> nouns.Version:
        """Add and remove tags of a version.  Raises NotFoundError, InvalidRequestError for what is no tag."""
        request = registry_pb2.TagVersionRequest(model=model, version=version, add=add, remove=remove)
        response = await self._transport.call("registry", self._stub().TagVersion, request)
        return model_wire.version(response.version)

    async def evaluate(
        self,
        version: str,
        metric: str,
        value: float,
        *,
        model: str = "",
        dataset_digest: str = "",
        dataset_rows: int = 0,
        note: str = "",
    ) -> nouns.Evaluation:
        """Record a measurement of a version; of several of one metric on one dataset the newest counts."""
        request = registry_pb2.RecordEvaluationRequest(
            model=model,
            version=version,
            evaluation=model_pb2.Evaluation(
                metric=metric, value=value, dataset_digest=dataset_digest, dataset_rows=dataset_rows, note=note
            ),
            request_id=new_request_id(),
        )
        response = await self._transport.call("registry", self._stub().RecordEvaluation, request)
        return model_wire.evaluation(response.evaluation)

    async def search(
        self,
        text: str = "",
        *,
        base_digest: str = "",
        task: str = "",
        tag: str = "",
        kind: str = "",
        metric: str = "",
        least: float | None = None,
        most: float | None = None,
        dataset_digest: str = "",
        job: str = "",
        order: str = "newest",
    ) -> AsyncIterator[governance_nouns.FoundVersion]:
        """Versions of all models that meet every condition; `order` is newest, or highest or lowest by the metric."""
        conditions = {
            "text": text,
            "base_digest": base_digest,
            "task": task,
            "tag": tag,
            "kind": kind,
            "metric": metric,
            "least": least,
            "most": most,
            "dataset_digest": dataset_digest,
            "job": job,
            "order": order,
        }
        request = governance_wire.search_to_wire(conditions)
        while True:
            page = await self._transport.call("registry", self._stub().SearchVersions, request)
            for item in page.found:
                yield governance_wire.found(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def family(self, version: str, *, model: str = "") -> governance_nouns.Family:
        """Everything that a version was made from, and everything that was made from it."""
        request = registry_pb2.GetLineageRequest(model=model, version=version)
        return governance_wire.family(await self._transport.call("registry", self._stub().GetLineage, request))

    async def set_canary(
        self, model: str, version: str, percent: int, *, alias: str = "prod", etag: str = "", reason: str = ""
    ) -> nouns.Alias:
        """Send a share of an alias's requests to a version, 0 ends it; it gets them once generators are ready.

        Raises NotFoundError, PreconditionError when the alias serves nothing, InvalidRequestError when the shares
        exceed 100 percent, ConflictError on a stale `etag`.
        """
        request = registry_pb2.SetCanaryRequest(
            model=model,
            alias=alias,
            version=version,
            percent=percent,
            etag=etag,
            reason=reason,
            request_id=new_request_id(),
        )
        response = await self._transport.call("registry", self._stub().SetCanary, request)
        return model_wire.alias(response.alias)

    async def create_gate(self, model: str, gate: governance_nouns.Gate) -> governance_nouns.Gate:
        """Store a condition that versions must meet before an alias takes them."""
        request = registry_pb2.CreateGateRequest(
            model=model, gate=governance_wire.gate_to_wire(gate), request_id=new_request_id()
        )
        response = await self._transport.call("registry", self._stub().CreateGate, request)
        return governance_wire.gate(response.gate)

    async def gates(self, model: str) -> AsyncIterator[governance_nouns.Gate]:
        """A model's gates, by id."""
        request = registry_pb2.ListGatesRequest(model=model)
        while True:
            page = await self._transport.call("registry", self._stub().ListGates, request)
            for item in page.gates:
                yield governance_wire.gate(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_gate(self, model: str, gate: str) -> None:
        """Delete a gate.  Raises NotFoundError."""
        request = registry_pb2.DeleteGateRequest(model=model, gate=gate)
        await self._transport.call("registry", self._stub().DeleteGate, request)

    async def delete(self, model: str, *, purge: bool = False, force: bool = False, reason: str = "") -> None:
        """Delete a model with its versions; `restore` brings it back for a week, unless `purge`.

        Raises PreconditionError while an alias or another model needs one, or a generator holds one and not `force`.
        """
        request = registry_pb2.DeleteModelRequest(model=model, purge=purge, force=force, reason=reason)
        await self._transport.call("registry", self._stub().DeleteModel, request)

    async def delete_version(
        self, version: str, *, model: str, purge: bool = False, force: bool = False, reason: str = ""
    ) -> None:
        """Delete a version; `restore_version` brings it back for a week, unless `purge`.

        Raises PreconditionError while an alias names it or a version was made from it, or a generator holds it and
        not `force`.
        """
        request = registry_pb2.DeleteVersionRequest(
            model=model, version=version, purge=purge, force=force, reason=reason
        )
        await self._transport.call("registry", self._stub().DeleteVersion, request)

    async def restore(self, model: str, *, reason: str = "") -> nouns.Model:
        """Bring back a deleted model, with the versions that went with it.  Raises NotFoundError."""
        request = registry_pb2.RestoreModelRequest(model=model, reason=reason)
        response = await self._transport.call("registry", self._stub().RestoreModel, request)
        return model_wire.model(response.model)

    async def restore_version(self, version: str, *, model: str = "", reason: str = "") -> nouns.Version:
        """Bring back a deleted version.  Raises NotFoundError, PreconditionError while its parent is deleted."""
        request = registry_pb2.RestoreVersionRequest(model=model, version=version, reason=reason)
        response = await self._transport.call("registry", self._stub().RestoreVersion, request)
        return model_wire.version(response.version)

    async def changes(self, model: str) -> AsyncIterator[governance_nouns.ModelChange]:
        """What was deleted, restored and purged under a model's name, newest first.  Raises NotFoundError."""
        request = registry_pb2.ListModelChangesRequest(model=model)
        while True:
            page = await self._transport.call("registry", self._stub().ListModelChanges, request)
            for item in page.changes:
                yield governance_wire.change(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
