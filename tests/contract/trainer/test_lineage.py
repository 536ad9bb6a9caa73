"""What a version says of where it comes from: its base, by digest and, where it is the tenant's own, as its parent."""

import grpc
import pytest
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller
from tests.contract.trainer.test_datasets import failed
from tests.contract.trainer.test_jobs import paused
from tests.contract.trainer.test_own_bases import published, version_of
from tests.tiny_model import TinyModel
from tests.unit.trainer.tiny import rows_text

URI = "hf:org/tiny@abc"
ADAPTER = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=2), epochs=1, batch_rows=5)
FULL = training_pb2.TrainingSettings(method=training_pb2.METHOD_FULL, epochs=1, batch_rows=5)


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    return str(caller.upload(rows_text().encode(), "lineage.jsonl").dataset)


@pytest.fixture(scope="module")
def base(caller: Caller) -> model_pb2.Version:
    """A full model of the tenant's that says where it came from."""
    return published(caller, "origin", TinyModel(seed=31), model_pb2.Lineage(base_uri=URI))


def held(caller: Caller, base: model_pb2.Version) -> str:
    """Why the registry does not delete the base."""
    request = registry_pb2.DeleteVersionRequest(model=base.model, version=base.version)
    with pytest.raises(grpc.RpcError) as refused:
        caller.registry.DeleteVersion(request, metadata=caller.metadata)
    assert failed(refused.value)[1] == "VERSION_IN_USE"
    return str(refused.value.details())


def test_a_fine_tune_has_the_full_model_that_it_began_as_for_its_parent_which_it_holds(
    caller: Caller, base: model_pb2.Version, dataset: str
) -> None:
    tuned = version_of(caller, caller.create(model="tuned", dataset=dataset, base="base:origin@1", settings=FULL))
    lineage = tuned.lineage
    assert (lineage.parent_version, lineage.base_digest, lineage.base_uri) == (base.version, base.base_digest, URI)
    assert tuned.base_digest != base.base_digest
    request = registry_pb2.GetLineageRequest(version=tuned.version)
    chain = caller.registry.GetLineage(request, metadata=caller.metadata).chain
    assert [version.version for version in chain] == [tuned.version, base.version]
    assert "tuned@1" in held(caller, base)


def test_an_adapter_on_an_own_base_names_it_by_digest_which_holds_it(caller: Caller, dataset: str) -> None:
    base = published(caller, "ground", TinyModel(seed=32), model_pb2.Lineage(base_uri=URI))
    made = version_of(caller, caller.create(model="thin", dataset=dataset, base="base:ground", settings=ADAPTER))
    lineage = made.lineage
    assert (lineage.parent_version, lineage.base_digest, lineage.base_uri) == ("", base.base_digest, URI)
    assert (made.base_digest, made.base_version) == (base.base_digest, base.version)
    assert "thin@1" in held(caller, base)


@pytest.mark.parametrize("settings", [ADAPTER, FULL], ids=["adapter", "full"])
def test_what_is_made_of_the_deployments_base_has_its_digest_and_no_parent(
    caller: Caller, dataset: str, settings: training_pb2.TrainingSettings
) -> None:
    job = caller.create(model="plain", dataset=dataset, settings=settings)
    lineage = version_of(caller, job).lineage
    # Where it lies on this machine is none of the tenant's business.
    assert (lineage.parent_version, lineage.base_digest, lineage.base_uri) == ("", job.base_digest, "")


def test_a_base_that_was_deleted_while_a_full_model_was_made_of_it_costs_it_its_parent_alone(
    caller: Caller, dataset: str
) -> None:
    base = published(caller, "fleeting", TinyModel(seed=33))
    settings = training_pb2.TrainingSettings(method=training_pb2.METHOD_FULL, epochs=20, batch_rows=1)
    job = caller.create(model="survivor", dataset=dataset, base="base:fleeting", settings=settings)
    caller.until_step(job.job)
    paused(caller, job.job)
    request = registry_pb2.DeleteVersionRequest(model="fleeting", version=base.version)
    caller.registry.DeleteVersion(request, metadata=caller.metadata)
    caller.training.ResumeJob(training_pb2.ResumeJobRequest(job=job.job), metadata=caller.metadata)
    lineage = version_of(caller, job).lineage
    assert (lineage.parent_version, lineage.base_digest) == ("", base.base_digest)
