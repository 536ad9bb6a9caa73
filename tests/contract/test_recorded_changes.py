"""Every RPC that changes state says so, and what its event in the audit log says; no read does."""

import re

from services.chassis import permissions
from services.chassis.auditing.naming import can_name, parts
from services.chassis.permissions import Permission
from tests.contract.contracts import Rpc, rpcs
from tests.contract.descriptors import method_of

CHANGES = re.compile(
    r"(Add|Attach|Cancel|Create|Delete|Disable|Import|Ingest|Merge|Pause|Pin|Publish|Put|Record|Reembed|Reindex|Restore|"
    r"Resume|Revoke|Rotate|Set|Tag|Tune|Unload|Update|Upload)([A-Z]|$)"
)
READS = re.compile(
    r"(Aggregate|Ask|Chat|Check|Complete|Count|Download|Embed|Estimate|Exchange|Explain|Export|Fill|Generate|Get|Issue|"
    r"Lease|List|Load|Preview|Read|Replay|Report|Rerank|Resolve|Search|Summarize|Tokenize|Validate|Verify|Watch|WhoAmI)([A-Z]|$)"
)
# Named like changes, and what they do is recorded elsewhere: as usage with a receipt, or as the change that it tells of.
RECORDED_ELSEWHERE = {
    "trivium.access.v1.AccessService/RecordUsage",
    "trivium.access.v1.AuditService/RecordEvents",
    "trivium.access.v1.UsageService/RecordUsages",
    # A note for the file's deletion, which the document that is put next tells of.
    "trivium.files.v1.FileService/AttachFile",
    # An answer that is kept on request, written by every request that generates one.
    "trivium.files.v1.ResponseService/PutResponse",
    "trivium.gateway.v1.EmbeddingService/CreateEmbeddings",
    "trivium.gateway.v1.ResponseService/CreateResponse",
    # Stops what was generated; what was used until then is in its receipt.
    "trivium.gateway.v1.ResponseService/CancelResponse",
}
# Access writes its events itself, in the transaction of the change; the gateway has no state, and what it is asked to
# change is recorded by the service that owns it, under the same principal and request id.
RECORD_NOTHING_HERE = ("trivium.access.v1.", "trivium.gateway.v1.")


def permission(rpc: Rpc) -> Permission:
    return permissions.of_method(method_of(rpc.service, rpc.method))


def test_each_rpc_is_named_like_a_change_or_like_a_read() -> None:
    unclear = [rpc.path for rpc in rpcs() if bool(CHANGES.match(rpc.method)) == bool(READS.match(rpc.method))]
    assert unclear == [], "say here whether it changes state"


def test_what_is_named_like_a_change_declares_one_and_what_is_named_like_a_read_does_not() -> None:
    changes = {rpc.path for rpc in rpcs() if CHANGES.match(rpc.method)} - RECORDED_ELSEWHERE
    assert {rpc.path for rpc in rpcs() if permission(rpc).changes_state} == changes


def test_a_change_names_its_event_where_the_chassis_records_it() -> None:
    wrong = {}
    for rpc in rpcs():
        declared = permission(rpc)
        if declared.changes_state and not rpc.service.startswith(RECORD_NOTHING_HERE):
            right = bool(re.fullmatch(r"[a-z]+\.[a-z]+", declared.action)) and declared.resource != ""
        else:
            right = declared.action == declared.resource == ""
        if not right:
            wrong[rpc.path] = (declared.action, declared.resource)
    assert wrong == {}


def test_the_resource_of_an_event_is_made_of_names_that_the_answer_or_the_request_has() -> None:
    wrong, recorded = {}, [rpc for rpc in rpcs() if permission(rpc).resource]
    for rpc in recorded:
        method, pieces = method_of(rpc.service, rpc.method), parts(permission(rpc).resource)
        unknown = [
            field
            for _, field in pieces
            if not (can_name(method.output_type, field) or can_name(method.input_type, field))
        ]
        malformed = [literal for literal, _ in pieces if not re.fullmatch(r"/?[a-z]+/", literal)]
        if unknown or malformed or not pieces:
            wrong[rpc.path] = {"unknown fields": unknown, "malformed": malformed}
    assert wrong == {}
    assert recorded


def test_what_is_recorded_elsewhere_exists() -> None:
    assert {rpc.path for rpc in rpcs()} >= RECORDED_ELSEWHERE
