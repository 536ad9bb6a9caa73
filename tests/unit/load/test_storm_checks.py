"""The storm's checks refuse forged answers: each fails for the reason that it is there for, and for no honest one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.load.generator.storm.cast import Version
from tests.load.generator.storm.checks import Check, Sample, distance, plain_checks, rescore, tell_attestation
from tests.load.generator.storm.traffic import Ask, Outcome, Response

MARK = 7
OURS, THEIRS, MARKED = "sha256:ours", "sha256:theirs", "sha256:marked"
NOWHERE = Path()
VERSIONS = [Version(0, OURS, NOWHERE), Version(1, THEIRS, NOWHERE), Version(0, MARKED, NOWHERE, MARK)]


def asked(version, tenant=0, beginning=(1, 2)):
    return Ask(tenant, version, beginning, (3,), 1.0, 0, 4)


def answer(version=OURS, **changed):
    slot = 1 if version else -1
    honest = Response(asked(version), 0.0, 1.0, (4, 5, 6), (-1.0, -2.0, -3.0), version, slot)
    return replace(honest, **changed)


class Known:
    """A reference that knows how far from the honest log probabilities each version lies."""

    def __init__(self, **apart):
        self._apart = {"": 2.0, OURS: 2.0, THEIRS: 2.0, MARKED: 2.0} | {
            {"ours": OURS, "theirs": THEIRS, "base": ""}[name]: nats for name, nats in apart.items()
        }

    def logprobs(self, version, responses):
        return [torch.tensor([-1.0, -2.0, -3.0]) - self._apart[version] for _ in responses]


def plain(*responses):
    return dict(plain_checks(VERSIONS, Outcome(list(responses))).by_check)


def rescored(reference, *responses):
    outcome = Outcome(list(responses))
    findings = plain_checks(VERSIONS, outcome)
    rescore(VERSIONS, outcome, reference, findings, Sample(len(responses), len(responses)))
    return dict(findings.by_check)


def test_an_honest_answer_is_held_against_nobody():
    assert rescored(Known(ours=0.05), answer()) == {}


def test_an_answer_that_was_given_up_is_not_counted():
    findings = plain_checks(VERSIONS, Outcome([Response(asked(OURS), 0.0, 1.0, left=True)]))
    assert (findings.answers, findings.by_check) == (0, {})


@pytest.mark.parametrize(
    ("forged", "check"),
    [
        (answer(failure="NOT_READY"), Check.FAILURE),
        (answer(named=THEIRS), Check.NAME),
        (answer(slot=-1), Check.NAME),
        (answer("", slot=2), Check.NAME),
        (answer(MARKED, tokens=(MARK, MARK, 5)), Check.MARK),
        (answer(cached_tokens=32), Check.CACHE),
    ],
)
def test_a_forged_answer_is_found(forged, check):
    assert plain(forged) == {check: 1}


def test_refusals_of_the_attestation_are_told_from_other_failures():
    findings = plain_checks(VERSIONS, Outcome([answer(failure="INTERNAL"), answer(failure="NOT_READY")]))
    tell_attestation(findings, 1)
    assert findings.by_check == {Check.ATTESTATION: 1, Check.FAILURE: 1}
    assert len(findings.wrong) == 2


def test_a_prompt_that_the_same_tenant_and_version_asked_before_may_be_cached():
    assert plain(answer(), answer(begun=2.0, ended=3.0, cached_tokens=32)) == {}


@pytest.mark.parametrize("other", [asked(OURS, tenant=1), asked(THEIRS), asked(OURS, beginning=(9, 9)), asked("")])
def test_a_prompt_that_somebody_else_asked_before_may_not(other):
    elder = replace(answer(other.version), ask=other)
    assert plain(elder, answer(begun=2.0, ended=3.0, cached_tokens=32)) == {Check.CACHE: 1}


def test_an_answer_far_from_its_version_is_found_even_where_no_other_is_nearer():
    assert rescored(Known(ours=0.6), answer()) == {Check.DISTANCE: 1}


def test_an_answer_nearer_to_another_version_is_found():
    assert rescored(Known(ours=0.3, theirs=0.02), answer()) == {Check.LIKELIEST: 1}


def test_answers_that_all_drift_a_little_are_found_together():
    assert rescored(Known(ours=0.2), *(answer() for _ in range(4))) == {Check.DRIFT: 1}


def test_a_log_probability_that_is_no_number_counts_as_far():
    assert distance([math.nan, -1.0], torch.tensor([-1.0, -1.0])) == pytest.approx(1.5)
