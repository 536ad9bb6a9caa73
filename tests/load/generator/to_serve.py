"""``train_to_serve_seconds``: from the last optimizer step to the first token of the version, through every service.

Tiny jobs on the small model, one after the other, each with the alias ``prod``: the trainer's process saves the adapter
and ends, the trainer publishes it, the registry gives the alias its target, the generator fetches, verifies, loads and
reports, the registry flips the alias, and whoever waited for that asks.  Each stage ends with an event of the service
that ends it, so a late stage names the service that is late.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from trivium.registry.v1 import model_pb2
from trivium.trainer.v1 import dataset_pb2_grpc, training_pb2, training_pb2_grpc

from tests.contract.trainer.deployment import parts
from tests.generating import QUESTIONS, Served, Tenant, tenant_of
from tests.load.percentile import percentile
from tests.stack import Api, Process
from tests.unit.trainer.tiny import rows_text

REPETITIONS = 20
TARGET_P50, TARGET_P99 = 1.5, 4.0
_MODEL = "swift"
_STEPS = 3
# A job trains at idle priority while anything serves: on a busy machine it takes its time.
_PATIENCE_SECONDS = 600.0
STAGES = (
    ("saved", "trainer's process: checkpoint and adapter on disk, process gone"),
    ("published", "trainer and registry: files uploaded, inspected, version made"),
    ("targeted", "trainer and registry: the alias gets its target"),
    ("flipped", "generator and registry: fetched, verified, loaded, reported, flipped"),
    ("answered", "generator: the first token of whoever waited for the flip"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One job: seconds from its last step to the end of each stage."""

    ends: dict[str, float]

    @property
    def seconds(self) -> float:
        """From the last step to the first token."""
        return self.ends["answered"]

    def stages(self) -> dict[str, float]:
        """What each stage took."""
        ends = [0.0, *(self.ends[name] for name, _ in STAGES)]
        return {
            name: after - before for (name, _), (before, after) in zip(STAGES, itertools.pairwise(ends), strict=True)
        }


@dataclass(frozen=True)
class _Trainer:
    datasets: Api
    training: Api


def measured(repetitions: int = REPETITIONS) -> list[Run]:
    """Train, wait, ask; as often as that, after one that warms up."""
    with tempfile.TemporaryDirectory(prefix="to-serve-") as name, _deployed(Path(name)) as (served, trainer, tenant):
        uploaded = trainer.datasets.UploadDataset(parts(rows_text().encode(), "rows.jsonl"))
        runs = [_run(served, trainer, tenant, str(uploaded.dataset.dataset), seed) for seed in range(repetitions + 1)]
        return runs[1:]


@contextmanager
def _deployed(folder: Path) -> Iterator[tuple[Served, _Trainer, Tenant]]:
    served = Served(folder)
    peers = {
        "TRIVIUM_ACCESS_ADDRESS": served.stack.access.address,
        "TRIVIUM_REGISTRY_ADDRESS": served.stack.registry.address,
        "TRIVIUM_DRAIN_SECONDS": "1",
    }
    process = Process("trainer", folder, peers)
    try:
        process.start()
        served.start()
        name = served.stack.tenant()
        credential = served.stack.tenant_key(name)
        with grpc.insecure_channel(process.address) as channel:
            trainer = _Trainer(
                Api(dataset_pb2_grpc.DatasetServiceStub(channel), credential),
                Api(training_pb2_grpc.TrainingServiceStub(channel), credential, _PATIENCE_SECONDS),
            )
            yield served, trainer, tenant_of(served, name, credential)
    finally:
        process.stop()
        served.close()


def _run(served: Served, trainer: _Trainer, tenant: Tenant, dataset: str, seed: int) -> Run:
    """One job from its order to the first token of its version."""
    seen = _Seen(tenant, served.stack.service())
    settings = training_pb2.TrainingSettings(
        lora=training_pb2.LoraSettings(rank=8), max_steps=_STEPS, batch_rows=2, epochs=1, seed=seed, learning_rate=1e-3
    )
    order = training_pb2.CreateJobRequest(model=_MODEL, dataset=dataset, settings=settings, alias="prod")
    job = trainer.training.CreateJob(order).job.job
    stamps: dict[str, float] = {}
    for answer in trainer.training.WatchJob(training_pb2.WatchJobRequest(job=job)):
        event = answer.event
        moment = event.create_time.ToNanoseconds() / 1e9
        if event.kind == training_pb2.JOB_EVENT_KIND_STEP and event.step == event.total_steps:
            stamps["trained"] = moment
        elif event.state == training_pb2.JOB_STATE_REGISTERING:
            stamps.setdefault("saved", moment)
        assert event.state != training_pb2.JOB_STATE_FAILED, event.message
    stamps |= seen.wait()
    return Run({name: stamps[name] - stamps["trained"] for name, _ in STAGES})


class _Seen:
    """Somebody who waits on the registry's watch for the tenant's next flip, and asks the version at once."""

    def __init__(self, tenant: Tenant, service: Any) -> None:
        self._tenant = tenant
        after = max((event.sequence for event in service.events_so_far()), default=0)
        self._stream = service.watch(after, timeout=_PATIENCE_SECONDS)
        self._stamps: dict[str, float] = {}
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def wait(self) -> dict[str, float]:
        """When each thing happened, in Unix seconds."""
        self._thread.join()
        self._stream.cancel()
        return self._stamps

    def _follow(self) -> None:
        names = {
            model_pb2.EVENT_KIND_VERSION_CREATED: "published",
            model_pb2.EVENT_KIND_ALIAS_TARGETED: "targeted",
            model_pb2.EVENT_KIND_ALIAS_FLIPPED: "flipped",
        }
        for message in self._stream:
            event = message.event
            if event.tenant != self._tenant.name or event.kind not in names:
                continue
            self._stamps[names[event.kind]] = event.create_time.ToNanoseconds() / 1e9
            if event.kind == model_pb2.EVENT_KIND_ALIAS_FLIPPED:
                call = self._tenant.generator.start(QUESTIONS[0], event.alias.serving_version, max_tokens=1)
                for response in call:
                    if response.WhichOneof("part") == "delta":
                        self._stamps["answered"] = time.time()
                        break
                for _ in call:
                    pass
                return


def seconds(runs: Sequence[Run], part: float) -> float:
    """The percentile of the whole way."""
    return percentile([run.seconds for run in runs], part)


def told(runs: Sequence[Run]) -> str:
    """For people: the whole, then where it goes."""
    lines = [
        f"last optimizer step to first token, {len(runs)} jobs: p50 {seconds(runs, 0.5):.2f} s (target "
        f"{TARGET_P50:g}), p99 {seconds(runs, 0.99):.2f} s (target {TARGET_P99:g})"
    ]
    for name, meaning in STAGES:
        took = [run.stages()[name] for run in runs]
        lines.append(f"  {name:10} median {statistics.median(took):6.3f} s, longest {max(took):6.3f} s  {meaning}")
    return "\n".join(lines)


if __name__ == "__main__":
    import sys

    print(told(measured(int(sys.argv[1]))))
