"""Searches, families and deletions of versions on the wire."""

from trivium.registry.v1 import model_pb2, registry_pb2

from services.chassis import paging
from services.registry.candidates import Listed
from services.registry.changes import Change
from services.registry.holds import Wish
from services.registry.lineage import Family, Node
from services.registry.search import Found, Order, Wanted
from services.registry.version_view import Version
from services.registry.wire import version
from services.registry.wire_kinds import KINDS_BACK
from services.registry.wire_times import time

_ORDERS = {
    registry_pb2.SEARCH_ORDER_UNSPECIFIED: Order.NEWEST,
    registry_pb2.SEARCH_ORDER_NEWEST: Order.NEWEST,
    registry_pb2.SEARCH_ORDER_HIGHEST: Order.HIGHEST,
    registry_pb2.SEARCH_ORDER_LOWEST: Order.LOWEST,
}


def wanted(request: registry_pb2.SearchVersionsRequest) -> Wanted:
    """What is searched for."""
    return Wanted(
        text=request.text,
        base_digest=request.base_digest,
        task=request.task,
        tag=request.tag,
        kind=KINDS_BACK.get(request.kind),
        metric=request.metric,
        least=request.least if request.HasField("least") else None,
        most=request.most if request.HasField("most") else None,
        dataset_digest=request.dataset_digest,
        job=request.job,
        order=_ORDERS[request.order],
    )


def position(request: registry_pb2.SearchVersionsRequest) -> tuple[float, str] | None:
    """Where a search goes on.  Raises PAGE_TOKEN_INVALID for a token of another search."""
    found = paging.decode(request.page_token, [str, str], _filters(request))
    # As a text, so that every digit of the number comes back.
    return None if found is None else (float(found[0]), str(found[1]))


def found(request: registry_pb2.SearchVersionsRequest, values: list[Found]) -> registry_pb2.SearchVersionsResponse:
    """A page of what was found; ``values`` has one more than the page when there is more."""
    asked = values[: paging.size_of(request.page_size)]
    shown = paging.fitting(
        [registry_pb2.FoundVersion(version=version(item.version), value=item.value) for item in asked]
    )
    token = ""
    if len(values) > len(shown):
        key, digest = values[len(shown) - 1].position(_ORDERS[request.order])
        token = paging.encode([repr(key), digest], _filters(request))
    return registry_pb2.SearchVersionsResponse(found=shown, next_page_token=token)


def listed(request: registry_pb2.ListVersionsRequest, values: list[Version]) -> registry_pb2.ListVersionsResponse:
    """A page of a model's versions; ``values`` has one more than the page when there is more."""
    shown = paging.fitting([version(item) for item in values[: paging.size_of(request.page_size)]])
    more = len(values) > len(shown)
    token = paging.encode([values[len(shown) - 1].number], request.model) if more else ""
    return registry_pb2.ListVersionsResponse(versions=shown, next_page_token=token)


def _filters(request: registry_pb2.SearchVersionsRequest) -> str:
    asked = registry_pb2.SearchVersionsRequest()
    asked.CopyFrom(request)
    asked.ClearField("page_token")
    asked.ClearField("page_size")
    return asked.SerializeToString(deterministic=True).hex()


def family(value: Family) -> registry_pb2.GetLineageResponse:
    """A version with its ancestors and descendants."""
    chain = paging.fitting([version(item) for item in value.chain])
    return registry_pb2.GetLineageResponse(
        chain=chain,
        descendants=[_node(node) for node in value.descendants],
        ancestors=[_node(node) for node in value.ancestors],
        truncated=value.truncated or len(chain) < len(value.chain),
    )


def _node(value: Node) -> registry_pb2.LineageNode:
    shown = version(value.version)
    # A thousand of them stand in one answer.
    shown.ClearField("files")
    for field in ("config", "libraries", "evaluations"):
        shown.lineage.ClearField(field)
    return registry_pb2.LineageNode(version=shown, via=value.via, depth=value.depth)


def deletion(request: registry_pb2.DeleteVersionRequest | registry_pb2.DeleteModelRequest) -> Wish:
    """How something is to be deleted."""
    return Wish(purge=request.purge, force=request.force, why=request.reason)


def change(value: Change) -> model_pb2.ModelChange:
    """One deletion, restoration or purge."""
    return model_pb2.ModelChange(
        number=value.number,
        kind=model_pb2.ModelChangeKind.Value(f"MODEL_CHANGE_KIND_{value.kind.value}"),
        version=value.version,
        version_number=value.version_number,
        principal=value.by.principal,
        create_time=time(value.created_at),
        reason=value.by.reason,
        detail=value.by.detail,
    )


def candidates(request: registry_pb2.ListCandidatesRequest, value: Listed) -> registry_pb2.ListCandidatesResponse:
    """A page of what auto may choose from; ``value`` has one more than the page when there is more."""
    asked = value.candidates[: paging.size_of(request.page_size)]
    shown = paging.fitting(
        [
            registry_pb2.Candidate(model=item.model, description=item.description, examples=item.examples)
            for item in asked
        ]
    )
    token = paging.encode([shown[-1].model]) if len(value.candidates) > len(shown) else ""
    return registry_pb2.ListCandidatesResponse(
        candidates=shown, next_page_token=token, etag=value.etag, unchanged=value.unchanged
    )
