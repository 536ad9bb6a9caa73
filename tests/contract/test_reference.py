"""The API reference, the contracts and the code say the same: what exists, and what fails how."""

import importlib
import inspect
import re

import pytest

from services.chassis.catalogue import Code, Reason
from tests.contract.contracts import PROTOS, Rpc, rpcs

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

_CODE_AND_REASONS = re.compile(r"\b([A-Z]+(?:_[A-Z]+)*) / ([A-Z]+(?:_[A-Z]+)*)")


def _section(service: str) -> str:
    package, _, noun = service.rpartition(".")
    text = (PROTOS / "README.md").read_text()
    heading = f"## {noun} (`{package}`"
    assert heading in text, f"protos/README.md has no section on {service}"
    return text.split(heading, 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path)
def test_the_reference_lists_every_rpc(rpc: Rpc) -> None:
    assert f"| `{rpc.method}` |" in _section(rpc.service)


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path)
def test_the_reference_names_every_failure_that_the_contract_names(rpc: Rpc) -> None:
    (row,) = [line for line in _section(rpc.service).splitlines() if line.startswith(f"| `{rpc.method}`")]
    words = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)*\b", rpc.comment)) - set(Code.__members__)
    named = words & set(Reason.__members__)
    assert named <= set(re.findall(r"`([A-Z_]+)`", row))


@pytest.mark.parametrize("rpc", rpcs(), ids=lambda rpc: rpc.path)
def test_a_failure_that_a_contract_names_is_in_the_catalogue_with_that_code(rpc: Rpc) -> None:
    for code, reason in _CODE_AND_REASONS.findall(rpc.comment):
        assert reason in Reason.__members__, f"{rpc.path} names {reason}, which the catalogue lacks"
        assert Reason[reason].value.code is Code[code]


def test_every_service_of_the_contracts_is_served_but_what_operators_write_themselves() -> None:
    assert {rpc.service for rpc in rpcs()} == {*SERVICERS, "trivium.policy.v1.PolicyService"}


@pytest.mark.parametrize("service", SERVICERS)
def test_a_servicer_implements_every_rpc(service: str) -> None:
    module, _, name = SERVICERS[service].partition(":")
    servicer = getattr(importlib.import_module(module), name)
    for rpc in (rpc for rpc in rpcs() if rpc.service == service):
        method = inspect.getattr_static(servicer, rpc.method)
        generated = "_pb2_grpc" in getattr(inspect.unwrap(method), "__module__", "")
        assert not generated, f"{rpc.path} is not implemented"
