"""Metrics name the versions that are used most, as many as the setting says, and lose no count."""

import random

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from services.chassis.telemetry import Telemetry
from services.generator.asking import Done, Ended, Opening, Stage
from services.generator.config import GeneratorSettings
from services.generator.engine import Attestation, Finish, Sampling
from services.generator.meter import Busiest, Meter


def done(version, tokens=5):
    slot = 0 if version else -1
    opening = Opening(
        *(3, 1, "r", "m", "m", version, "e", "b", "d", "t", "p"),
        Attestation(slot, version, 1, "", "d"),
        Sampling(max_tokens=9),
    )
    return Done(
        opening, (Ended(Finish.STOP, tokens),), (Stage("queue", 0.5), Stage("prefill", 1.0), Stage("generate", 2.0))
    )


def metered(limit):
    telemetry = Telemetry(GeneratorSettings(), "generator")
    return telemetry, Meter(telemetry, limit)


def samples(telemetry, name):
    return {
        tuple(sample.labels.values()): sample.value
        for metric in telemetry.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


def test_a_version_has_its_requests_tokens_first_token_and_stages():
    telemetry, meter = metered(4)
    for _ in range(2):
        meter.observe(done("sha256:v"))
    meter.observe(done(""))
    assert samples(telemetry, "generator_answers_total") == {("sha256:v", "stop"): 2, ("base", "stop"): 1}
    assert samples(telemetry, "generator_tokens_total")["sha256:v", "completion"] == 10
    assert samples(telemetry, "generator_first_token_seconds_sum")["sha256:v",] == 3.0
    assert samples(telemetry, "generator_stage_seconds_sum")["sha256:v", "queue"] == 1.0


@given(st.lists(st.integers(0, 40), max_size=300), st.integers(1, 5))
def test_however_many_versions_come_the_series_are_bounded_and_no_answer_is_lost(order, limit):
    telemetry, meter = metered(limit)
    for number in order:
        meter.observe(done(f"v{number}"))
    counted = samples(telemetry, "generator_answers_total")
    assert sum(counted.values()) == len(order)
    for name in ("generator_answers_total", "generator_tokens_total", "generator_first_token_seconds_count"):
        versions = {labels[0] for labels in samples(telemetry, name)}
        assert len(versions - {"other"}) <= limit
    assert b"v41" not in generate_latest(telemetry.registry)


def test_the_busiest_of_many_have_names_whenever_they_came():
    busiest = Busiest(3)
    order = [f"rare-{number}" for number in range(200)] + ["one", "two", "three"] * 100
    random.Random(7).shuffle(order)
    for name in order:
        busiest.use(name, 1)
    assert [busiest.label(name) for name in ("one", "two", "three", "rare-1")] == ["one", "two", "three", "other"]
