"""The API reference, the contracts and the code say the same: what exists, and what fails how."""

import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cache

from services.chassis.catalogue import Code, Reason
from tests.contract.contracts import PROTOS, Rpc, rpcs
from tests.contract.descriptors import every_method, method_of

SERVICERS = {
    "trivium.access.v1.AccessService": "services.access.servicer:AccessServicer",
    "trivium.access.v1.AuditService": "services.access.servicer_audit:AuditServicer",
    "trivium.access.v1.QuotaService": "services.access.servicer_metering:QuotaServicer",
    "trivium.access.v1.UsageService": "services.access.servicer_metering:UsageServicer",
    "trivium.access.v1.UserService": "services.access.servicer_users:UserServicer",
    "trivium.registry.v1.RegistryService": "services.registry.servicer:RegistryServicer",
    "trivium.embedder.v1.EmbedderService": "services.embedder.servicer:EmbedderServicer",
    "trivium.retriever.v1.RetrieverService": "services.retriever.servicer:RetrieverServicer",
    "trivium.trainer.v1.DatasetService": "services.trainer.servicer:DatasetServicer",
    "trivium.trainer.v1.TrainingService": "services.trainer.servicer:TrainingServicer",
    "trivium.generator.v1.GeneratorService": "services.generator.servicer:GeneratorServicer",
    "trivium.files.v1.BatchService": "services.files.servicer:BatchServicer",
    "trivium.files.v1.FileService": "services.files.servicer:FileServicer",
    "trivium.files.v1.ResponseService": "services.files.servicer:ResponseServicer",
    "trivium.gateway.v1.BatchService": "gateway.batches.servicer:BatchServicer",
    "trivium.gateway.v1.EmbeddingService": "gateway.embeddings.servicer:EmbeddingServicer",
    "trivium.gateway.v1.FileService": "gateway.files.servicer:FileServicer",
    "trivium.gateway.v1.GatewayService": "gateway.servicer:GatewayServicer",
    "trivium.gateway.v1.FineTuningService": "gateway.fine_tuning.servicer:FineTuningServicer",
    "trivium.gateway.v1.ModelService": "gateway.models.servicer:ModelServicer",
    "trivium.gateway.v1.ReplayService": "gateway.replaying.servicer:ReplayServicer",
    "trivium.gateway.v1.ResponseService": "gateway.responses.servicer:ResponseServicer",
    "trivium.gateway.v1.VectorStoreService": "gateway.vector_stores.servicer:VectorStoreServicer",
}

# Reasons that the comment states indirectly: it refers to another RPC, or to the errors of every RPC.
LISTED_IN_THE_REFERENCE_ALONE = {
    "trivium.gateway.v1.GatewayService/ListModels": {"PEER_UNAVAILABLE"},
    "trivium.gateway.v1.ResponseService/CreateResponse": {"TOOLS_UNSUPPORTED"},
    "trivium.registry.v1.RegistryService/SetAlias": {"FIELD_INVALID"},
}

_KINDS = {
    (False, False): "unary",
    (False, True): "server stream",
    (True, False): "client stream",
    (True, True): "both stream",
}
_CODE_AND_REASONS = re.compile(r"\b([A-Z]+(?:_[A-Z]+)*) / ([A-Z]+(?:_[A-Z]+)*)")
_CAPITALS = re.compile(r"\b[A-Z]+(?:_[A-Z]+)*\b")
_ROW = re.compile(r"^\| `(\w+)` \| ([a-z ]+) \| .+ \| (.*) ?\|$", re.MULTILINE)
_REASON = re.compile(r"`([A-Z_]+)`")
_TABLE = re.compile(r"^\| RPC \| kind \| what it does \| fails with \|\n(?:\|.*\n)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Row:
    """One RPC in the reference: its kind and the reasons that it fails with."""

    method: str
    kind: str
    reasons: frozenset[str]


@cache
def rows(service: str) -> dict[str, Row]:
    """The table of a service, by method.  Fails if the service has no table, or if a line of the table is not a row."""
    package, _, noun = service.rpartition(".")
    heading = f"## {noun} (`{package}`"
    text = (PROTOS / "README.md").read_text()
    assert heading in text, f"protos/README.md has no section on {service}"
    section = text.split(heading, 1)[1].split("\n## ", 1)[0]
    (table,) = _TABLE.finditer(section)
    found = [Row(method, kind, frozenset(_REASON.findall(reasons))) for method, kind, reasons in _ROW.findall(table[0])]
    assert len(found) == table[0].count("\n") - 2, f"a line of the table of {service} is no row"
    assert len({row.method for row in found}) == len(found), f"the table of {service} has an RPC twice"
    return {row.method: row for row in found}


def row_of(rpc: Rpc) -> Row:
    """The line of an RPC; one that says nothing where the reference has none."""
    return rows(rpc.service).get(rpc.method, Row(rpc.method, "", frozenset()))


def named(rpc: Rpc) -> set[str]:
    """The reasons of the catalogue that the comment of an RPC names."""
    return (set(_CAPITALS.findall(rpc.comment)) - set(Code.__members__)) & set(Reason.__members__)


def test_every_rpc_of_the_descriptors_is_read_from_the_contracts() -> None:
    assert {rpc.path for rpc in rpcs()} == {
        f"{method.containing_service.full_name}/{method.name}" for method in every_method()
    }, "an RPC without a comment, or one whose stubs are out of date"


def test_the_reference_lists_every_rpc_and_no_other() -> None:
    listed = {f"{service}/{method}" for service in {rpc.service for rpc in rpcs()} for method in rows(service)}
    assert listed == {rpc.path for rpc in rpcs()}


def test_the_reference_says_of_each_rpc_which_side_streams() -> None:
    wrong = {}
    for rpc in rpcs():
        method = method_of(rpc.service, rpc.method)
        kind = _KINDS[method.client_streaming, method.server_streaming]
        if row_of(rpc).kind != kind:
            wrong[rpc.path] = f"{row_of(rpc).kind}, and it is {kind}"
    assert wrong == {}


def test_the_reference_names_the_failures_that_the_contract_names_and_no_other() -> None:
    wrong = {}
    for rpc in rpcs():
        contract, reference = named(rpc), row_of(rpc).reasons - LISTED_IN_THE_REFERENCE_ALONE.get(rpc.path, set())
        if contract != reference:
            wrong[rpc.path] = {"contract alone": contract - reference, "reference alone": reference - contract}
    assert wrong == {}
    assert sum(bool(named(rpc)) for rpc in rpcs()) > len(rpcs()) / 2, "the comments are no longer read"


def test_what_only_the_reference_lists_is_listed_there_and_not_in_the_contract() -> None:
    for rpc in rpcs():
        excused = LISTED_IN_THE_REFERENCE_ALONE.get(rpc.path, set())
        assert excused <= row_of(rpc).reasons - named(rpc), rpc.path


def test_a_failure_that_a_contract_names_is_in_the_catalogue_with_that_code() -> None:
    pairs = [(rpc.path, *pair) for rpc in rpcs() for pair in _CODE_AND_REASONS.findall(rpc.comment)]
    catalogue = {reason.name: reason.value.code.name for reason in Reason}
    assert [pair for pair in pairs if catalogue.get(pair[2]) != pair[1]] == []
    assert len(pairs) > len(rpcs()), "the comments are no longer read"


def test_every_service_of_the_contracts_is_served_but_what_operators_write_themselves() -> None:
    assert {rpc.service for rpc in rpcs()} == {*SERVICERS, "trivium.policy.v1.PolicyService"}


def test_a_servicer_implements_every_rpc() -> None:
    missing = []
    for rpc in rpcs():
        if rpc.service in SERVICERS:
            module, _, name = SERVICERS[rpc.service].partition(":")
            method = inspect.getattr_static(getattr(importlib.import_module(module), name), rpc.method)
            if "_pb2_grpc" in getattr(inspect.unwrap(method), "__module__", ""):
                missing.append(rpc.path)
    assert missing == []
