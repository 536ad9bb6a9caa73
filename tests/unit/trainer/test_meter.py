"""What is counted of training, with bounded labels; and every alert names a metric that there is."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.chassis.telemetry import Telemetry
from services.trainer import meter as meter_module
from services.trainer.config import TrainerSettings
from services.trainer.job import Job, Measures, Order, Progress, State
from services.trainer.meter import Meter
from services.trainer.reports import Report
from services.trainer.scheduling import state as scheduling
from services.trainer.settings import Method, Settings
from services.trainer.work import Line, Said
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def telemetry() -> Telemetry:
    """A registry of its own."""
    return Telemetry(TrainerSettings(), "trainer")


@pytest.fixture
def meter(telemetry: Telemetry) -> Meter:
    """What is tested."""
    return Meter(telemetry)


def job(name: str = "a", state: State = State.QUEUED, method: Method = Method.LORA, **fields: Any) -> Job:
    order = Order("m", "rows", "", "tiny", "sha256:base", Settings(method=method), "")
    when = {"create_time": NOW, "queue_time": NOW}
    return Job("acme", name, "ada", order, state, Progress(), **(when | fields))


def reported(meter: Meter, name: str, *lines: Line, seconds: float = 0.0) -> None:
    for line in lines:
        meter.hear(Report("acme", name, 1, line, seconds))


def nothing_planned(*jobs: scheduling.Job) -> scheduling.State:
    return scheduling.State(jobs, nodes=(scheduling.Node("n", 1 << 30, 2),))


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def test_the_queue_is_told_by_state_and_by_who_waits_longest(telemetry: Telemetry, meter: Meter) -> None:
    trained = Measures(stepped_at=(NOW - timedelta(seconds=300)).timestamp())
    jobs = [
        job("a", queue_time=NOW - timedelta(seconds=90)),
        job("b", queue_time=NOW - timedelta(seconds=40)),
        job("c", State.RUNNING, crashes=2),
        job("d", State.REGISTERING, measures=trained),
    ]
    meter.see(jobs, nothing_planned(), NOW.timestamp())
    assert value(telemetry, "trainer_jobs", state="queued") == 2
    assert value(telemetry, "trainer_jobs", state="running") == 1
    assert value(telemetry, "trainer_jobs", state="paused") == 0
    assert value(telemetry, "trainer_queue_oldest_seconds") == 90
    assert value(telemetry, "trainer_registering_oldest_seconds") == 300
    assert value(telemetry, "trainer_crashes_in_a_row") == 2
    meter.see([], nothing_planned(), NOW.timestamp())
    for name in ("trainer_queue_oldest_seconds", "trainer_registering_oldest_seconds", "trainer_crashes_in_a_row"):
        assert value(telemetry, name) == 0


def test_reserved_bytes_count_a_base_once(telemetry: Telemetry, meter: Meter) -> None:
    group = scheduling.Group("sha256:base", "bf16", 2)
    needs = scheduling.Needs(job_bytes=10, threads=2, group=group, base_bytes=100)
    running = scheduling.Job(
        "a", "t", scheduling.Priority.NORMAL, scheduling.Phase.RUNNING, 0.0, 0.0, needs, nodes=("n",)
    )
    meter.see([], nothing_planned(running, replace(running, job="b")), 0.0)
    assert value(telemetry, "trainer_reserved_bytes") == 120
    assert value(telemetry, "trainer_resident_bytes") == 0
    assert value(telemetry, "trainer_memory_bytes") == 1 << 30


def test_resident_bytes_are_what_processes_told_last_and_count_each_once(telemetry: Telemetry, meter: Meter) -> None:
    needs = scheduling.Needs(10, 2, scheduling.Group("sha256:base", "bf16", 2), base_bytes=100)
    joint = scheduling.Job(
        "a", "t", scheduling.Priority.NORMAL, scheduling.Phase.RUNNING, 0.0, 0.0, needs, nodes=("n",)
    )
    solo = replace(joint, job="c", needs=scheduling.Needs(500, 2))
    jobs = (joint, replace(joint, job="b"), solo)
    for name in "abc":
        meter.started(job(name), NOW.timestamp())
    for name, memory_bytes in (("a", 5000), ("b", 4000), ("c", 700)):
        reported(meter, name, Line(Said.STEP, Progress(1, 9, 100), memory_bytes=memory_bytes))
    meter.see([], nothing_planned(*jobs), 0.0)
    assert value(telemetry, "trainer_resident_bytes") == 4700
    meter.left("c")
    meter.see([], nothing_planned(*jobs), 0.0)
    assert value(telemetry, "trainer_resident_bytes") == 4000


def test_a_wait_is_from_the_place_in_line_to_the_start_and_giving_way_is_none(
    telemetry: Telemetry, meter: Meter
) -> None:
    later = NOW + timedelta(seconds=30)
    meter.started(job(), later.timestamp())
    gave_way = Measures(stepped_at=(NOW + timedelta(seconds=10)).timestamp())
    meter.started(job(measures=gave_way), later.timestamp())
    meter.started(job(state=State.RUNNING), later.timestamp())
    assert value(telemetry, "trainer_queue_wait_seconds_count") == 1
    assert value(telemetry, "trainer_queue_wait_seconds_sum") == 30


@pytest.mark.parametrize(("method", "kind"), [(Method.RSLORA, "joint"), (Method.FULL, "solo")])
def test_work_is_counted_by_kind_also_where_it_is_done_again(
    telemetry: Telemetry, meter: Meter, method: Method, kind: str
) -> None:
    meter.started(job(method=method), NOW.timestamp())
    step = Line(Said.STEP, Progress(6, 9, 600), tokens_per_second=50.0)
    reported(meter, "a", Line(Said.STARTED, Progress(5, 9, 500)), step)
    # The process was lost, and the job goes on from its checkpoint.
    meter.left("a")
    meter.started(job(method=method), NOW.timestamp())
    reported(meter, "a", Line(Said.STARTED, Progress(5, 9, 500)), step)
    reported(meter, "a", Line(Said.USAGE), seconds=1.5)
    assert value(telemetry, "trainer_steps_total", kind=kind) == 2
    assert value(telemetry, "trainer_trained_tokens_total", kind=kind) == 200
    assert value(telemetry, "trainer_compute_seconds_total", kind=kind) == 1.5
    assert value(telemetry, "trainer_step_seconds_sum", kind=kind) == 4.0
    # What comes of a job that left is nobody's.
    meter.left("a")
    reported(meter, "a", step, Line(Said.USAGE), seconds=9.0)
    assert value(telemetry, "trainer_compute_seconds_total", kind=kind) == 1.5


def test_checkpoints_count_with_their_bytes_and_a_full_disk_as_a_failure(telemetry: Telemetry, meter: Meter) -> None:
    meter.started(job(), NOW.timestamp())
    assert value(telemetry, "trainer_checkpoints_total", outcome="failed") == 0
    reported(meter, "a", Line(Said.CHECKPOINT, Progress(5, 9), size_bytes=70), Line(Said.REFUSED, reason="DISK_FULL"))
    reported(meter, "a", Line(Said.REFUSED, reason="TRAINING_DIVERGED"))
    assert value(telemetry, "trainer_checkpoints_total", outcome="written") == 1
    assert value(telemetry, "trainer_checkpoints_total", outcome="failed") == 1
    assert value(telemetry, "trainer_checkpoint_bytes_total") == 70


def test_ends_are_told_apart_by_the_catalogues_reasons_alone(telemetry: Telemetry, meter: Meter) -> None:
    meter.ended(job(state=State.FAILED, error_reason="TRAINING_DIVERGED"))
    for number in range(3):
        meter.ended(job(state=State.FAILED, error_reason=f"tenant's own {number}"))
    meter.ended(job(state=State.SUCCEEDED))
    assert value(telemetry, "trainer_jobs_ended_total", state="failed", reason="TRAINING_DIVERGED") == 1
    assert value(telemetry, "trainer_jobs_ended_total", state="failed", reason="other") == 3
    assert value(telemetry, "trainer_jobs_ended_total", state="succeeded", reason="") == 1


def test_however_many_jobs_and_tenants_there_are_the_series_are_the_same(telemetry: Telemetry, meter: Meter) -> None:
    def lived(name: str) -> int:
        meter.started(job(name), NOW.timestamp())
        reported(meter, name, Line(Said.STEP, Progress(1, 2, 9), tokens_per_second=1.0), Line(Said.CHECKPOINT))
        meter.left(name)
        meter.ended(job(name, State.CANCELLED))
        return series(telemetry.registry)

    meter.see([job()], nothing_planned(), NOW.timestamp())
    first = lived("first")
    assert {lived(f"job-{number}") for number in range(50)} == {first}


def series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect() if metric.name.startswith("trainer_"))


async def test_the_runner_tells_what_it_starts_loses_and_ends(world: World) -> None:
    one, other = await queued(world.jobs), await queued(world.jobs)
    async with world.running():
        await world.until(lambda: {one.job, other.job} <= world.executor.started.keys(), "both were started")
        world.executor.says(
            one.job, Line(Said.STEP, Progress(1, 2, 10), tokens_per_second=5.0), Line(Said.CHECKPOINT, size_bytes=3)
        )
        world.executor.loses(one.job)
        await world.until(
            lambda: world.executor.started[one.job].epoch == 2 if one.job in world.executor.started else False, "again"
        )
        world.executor.says(one.job, Line(Said.REFUSED, reason="TRAINING_DIVERGED", message="the loss is nan"))
        await world.until_state(one, State.FAILED)
        await world.jobs.cancel("acme", other.job)
        await world.jobs.cancel("acme", other.job)
        await world.until_state(other, State.CANCELLED)
        await world.until(lambda: world.sample("trainer_jobs", state="running") == 0, "the queue is empty")
    assert world.sample("trainer_queue_wait_seconds_count") == 2
    assert world.sample("trainer_steps_total", kind="joint") == 1
    assert world.sample("trainer_trained_tokens_total", kind="joint") == 10
    assert world.sample("trainer_checkpoint_bytes_total") == 3
    assert world.sample("trainer_jobs_lost_total") == 1
    assert world.sample("trainer_jobs_ended_total", state="failed", reason="TRAINING_DIVERGED") == 1
    assert world.sample("trainer_jobs_ended_total", state="cancelled", reason="") == 1


def test_every_alert_is_of_metrics_that_there_are_and_says_what_to_do(telemetry: Telemetry, meter: Meter) -> None:
    known = {sample.name for metric in telemetry.registry.collect() for sample in metric.samples}
    (group,) = yaml.safe_load(Path(meter_module.__file__).with_name("alerts.yaml").read_text())["groups"]
    assert len(group["rules"]) == 4
    for rule in group["rules"]:
        named = set(re.findall(r"trainer_\w+", rule["expr"]))
        assert named
        assert named <= known, rule["alert"]
        assert rule["labels"] == {"severity": "page"}
        assert rule["annotations"].keys() == {"summary", "action"}
        # Settings that it names are ours.
        for name in re.findall(r"TRIVIUM_TRAINER_(\w+)", rule["annotations"]["action"]):
            assert name.lower() in TrainerSettings.model_fields, name
