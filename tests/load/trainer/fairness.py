"""Is the queue fair?  Three tenants of different weights with full queues, and a small one beside a burst.

On the real service with a tiny random base, whose steps take milliseconds, one thread, a short run quantum, and memory for
some of the jobs only, so that jobs wait, and are put off for others.  What is measured is whose turn it is, not speed.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from trivium.trainer.v1 import training_pb2

from services.trainer.data.dataset_rows import Dataset
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.rows import Format
from services.trainer.job import Order
from services.trainer.needs import architecture
from services.trainer.ordering import memory_parts
from services.trainer.row_needs import Data
from services.trainer.settings import Keep, Objective, Settings
from tests.load.percentile import percentile
from tests.load.scaled import scaled
from tests.load.trainer.parts import Figures, say
from tests.load.trainer.service import FINISHED, Tenant, Trainer, deployed, plain_settings, texts
from tests.stack import eventually
from tests.unit.trainer.tiny import make_base

WEIGHTS = {"one": 1.0, "two": 2.0, "four": 4.0}
QUANTUM_SECONDS = 5.0
# Jobs of a tenant, and how many fit into memory in all.
_QUEUED, _FIT = 20, 12
_WINDOW_SECONDS = 120.0
_BURST, _SMALL_JOBS = 100, 20
_SMALL_STEPS = 5
_ROWS, _ROW_TOKENS, _RATE = 4, 64, 1e-4
# How many, and of how many words each.
_TEXTS = (8, 400)
_ENDLESS = 20_000
_PATIENCE_SECONDS = 300.0


def jain(values: Iterable[float]) -> float:
    """Jain's index of fairness: 1 when all are equal, one over their number when one has everything."""
    values = list(values)
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


def figures(scale: float) -> Figures:
    """Both figures, each on a deployment of its own."""
    return shares(max(20.0, _WINDOW_SECONDS * scale)) | burst(
        scaled(_BURST, scale, least=20), scaled(_SMALL_JOBS, scale, least=3)
    )


def shares(window_seconds: float) -> Figures:
    """`fairness_jain`: seconds of machine that each tenant's jobs had within a window, over its weight."""
    allowances = {name: {"weight": weight} for name, weight in WEIGHTS.items()}
    with _tiny({"TRIVIUM_TRAINER_ALLOWANCES": json.dumps(allowances)}) as trainer:
        tenants = [trainer.tenant(name) for name in WEIGHTS]
        _fill(tenants, _QUEUED)
        eventually(
            lambda: all(trainer.compute_seconds().get(name, 0.0) > 0 for name in WEIGHTS),
            "all train",
            _PATIENCE_SECONDS,
        )
        before, tokens = trainer.compute_seconds(), {tenant.name: tenant.trained_tokens() for tenant in tenants}
        threading.Event().wait(window_seconds)
        used = {name: trainer.compute_seconds()[name] - before[name] for name in WEIGHTS}
        trained = {tenant.name: tenant.trained_tokens() - tokens[tenant.name] for tenant in tenants}
    found = {
        "fairness_jain": jain(used[name] / weight for name, weight in WEIGHTS.items()),
        "fairness_jain_tokens": jain(trained[name] / weight for name, weight in WEIGHTS.items()),
        "fairness_seconds": used,
    }
    say(
        f"seconds by tenant {_told(used)} of weights {_told(WEIGHTS)}: Jain {found['fairness_jain']:.4f} (target: 0.98)"
    )
    return found


def burst(many: int, small_jobs: int) -> Figures:
    """`burst_p95_wait_ratio`: how much longer a small job waits beside a burst than on an idle machine, in quanta.

    That is the p95 beside the burst less the median on the idle machine: a start's own seconds are no wait for others.
    """
    with _tiny({}) as trainer:
        small, crowd = trainer.tenant(), trainer.tenant()
        dataset = small.upload(texts(8, 400))
        _wait_of(small, dataset)
        idle = [_wait_of(small, dataset) for _ in range(max(3, small_jobs // 3))]
        _fill([crowd], many)
        running = training_pb2.JOB_STATE_RUNNING
        eventually(lambda: crowd.states().count(running) >= _FIT, "the burst fills the memory", _PATIENCE_SECONDS)
        waits = []
        pause = threading.Event()
        for number in range(small_jobs):
            # At another moment of the quantum each time.
            pause.wait(QUANTUM_SECONDS * (number % 4) / 4)
            waits.append(_wait_of(small, dataset))
    still = percentile(idle, 0.5)
    longest = percentile(waits, 0.95)
    found = {
        "burst_p95_wait_ratio": (longest - still) / QUANTUM_SECONDS,
        "burst_p95_wait_seconds": longest,
        "burst_median_wait_seconds": percentile(waits, 0.5),
        "burst_idle_wait_seconds": still,
    }
    say(
        f"a small job waits {still:.2f} s on an idle machine, beside {many} jobs {found['burst_median_wait_seconds']:.2f} s"
        f" (p95 {longest:.2f} s): {found['burst_p95_wait_ratio']:.2f} quanta more (target: at most 3)"
    )
    return found


def _wait_of(tenant: Tenant, dataset: str) -> float:
    """Order a small job; seconds until its first step.  Returns once it has ended."""
    begun = time.time()
    job = tenant.order("small", dataset, plain_settings(_ROWS, _ROW_TOKENS, _SMALL_STEPS, learning_rate=_RATE))
    stepped = 0.0
    for answer in tenant.training.WatchJob(training_pb2.WatchJobRequest(job=job)):
        event = answer.event
        if event.kind == training_pb2.JOB_EVENT_KIND_STEP and not stepped:
            stepped = event.create_time.ToNanoseconds() / 1e9
        assert event.state != training_pb2.JOB_STATE_FAILED, event.message
        if event.state in FINISHED:
            break
    return stepped - begun


def _fill(tenants: Sequence[Tenant], count: int) -> None:
    """Queue so many jobs of each that do not end; in turn, so that nobody has the machine to itself at first."""
    datasets = [tenant.upload(texts(*_TEXTS)) for tenant in tenants]
    for number in range(count):
        for tenant, dataset in zip(tenants, datasets, strict=True):
            settings = plain_settings(_ROWS, _ROW_TOKENS, _ENDLESS, seed=number, learning_rate=_RATE)
            tenant.order(f"m{number}", dataset, settings)


def _data(base: Path) -> Data:
    """What the jobs train on, as the trainer counts it."""
    encoder = ChatEncoder.load(base)
    lengths = [len(encoder.encode_text(row["text"]).tokens) for row in texts(*_TEXTS)]
    now = datetime.now(UTC)
    counted = (len(lengths), 0, sum(lengths), max(lengths), sum(lengths))
    return Data(Dataset("rows", 1, "", "rows.jsonl", Format.TEXT, *counted, now))


@contextmanager
def _tiny(environment: Mapping[str, str]) -> Iterator[Trainer]:
    """A deployment on a tiny base, with memory for a few jobs."""
    with tempfile.TemporaryDirectory(prefix="trivium-fair-") as name:
        base = make_base(Path(name) / "base")
        shape = architecture(json.loads((base / "config.json").read_text()))
        settings = Settings(
            rank=8, objective=Objective.CONTINUED, batch_rows=_ROWS, max_row_tokens=_ROW_TOKENS, keep=Keep.LAST
        )
        order = Order("m", "rows", "", "tiny", "", settings, "")
        shared, own = (sum(parts.values()) for parts in memory_parts(shape, order, _data(base)))
        memory = shared + _FIT * own + own // 2
        variables = {
            "TRIVIUM_TRAINER_MEMORY_BYTES": str(memory),
            "TRIVIUM_TRAINER_QUANTUM_SECONDS": str(QUANTUM_SECONDS),
            "TRIVIUM_TRAINER_ENTRY_PENALTY_SECONDS": "1",
            **environment,
        }
        with deployed(Path(name) / "data", variables, base=f"file:{base}", threads=1) as trainer:
            yield trainer


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())
