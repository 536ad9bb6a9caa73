"""What cannot be joined trains in a process of its own, and ends in the registry as what it is."""

import pytest
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller
from tests.unit.trainer.tiny import rows_text


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset's id."""
    return str(caller.upload(rows_text().encode(), "solo.jsonl").dataset)


def test_full_fine_tuning_ends_as_a_full_model_that_later_jobs_have_as_their_base(caller: Caller, dataset: str) -> None:
    settings = training_pb2.TrainingSettings(
        method=training_pb2.METHOD_FULL, epochs=1, batch_rows=5, validation_ratio=0.2, learning_rate=1e-3
    )
    done = caller.finished(caller.create(model="full-grown", dataset=dataset, settings=settings, alias="prod").job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    request = registry_pb2.GetVersionRequest(version=done.version)
    version = caller.registry.GetVersion(request, metadata=caller.metadata).version
    assert version.kind == model_pb2.VERSION_KIND_FULL
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {file.filename for file in version.files}
    assert "trl" in version.lineage.libraries
    # The registry names it by its own files, not by the base that it came from.
    assert version.base_digest != done.base_digest
    adapter = training_pb2.TrainingSettings(
        method=training_pb2.METHOD_QLORA, lora=training_pb2.LoraSettings(rank=2), epochs=1, batch_rows=5
    )
    job = caller.finished(caller.create(model="on-it", dataset=dataset, base="base:full-grown", settings=adapter).job)
    assert job.state == training_pb2.JOB_STATE_SUCCEEDED, job.error
    assert (job.base, job.base_digest) == ("full-grown@1", version.base_digest)
    request = registry_pb2.GetVersionRequest(version=job.version)
    made = caller.registry.GetVersion(request, metadata=caller.metadata).version
    assert (made.kind, made.base_digest) == (model_pb2.VERSION_KIND_LORA, version.base_digest)
