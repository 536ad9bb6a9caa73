"""Promise 4 in a storm: adapters come and go while answers stream, and each answer is its own version's, rescored.

The small one of ``make bench NAME=generator ARGS=storm``, on the folder's generator; and, long, every planted fault.
"""

import pytest

from tests.load.generator.planted.faults import FAULTS
from tests.load.generator.storm import bench, cast, checks, traffic
from tests.load.generator.storm.reference import Reference

ANSWERS = 40


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_answers_in_a_storm_are_those_of_the_versions_they_name(served, tmp_path):
    players = cast.assemble(served, tmp_path)
    outcome = traffic.run(players, "small", ANSWERS, seed=5)
    findings = checks.plain_checks(players.versions, outcome)
    reference = Reference(served.base.path, {version.digest: version.folder for version in players.versions})
    checks.rescore(players.versions, outcome, reference, findings, checks.Sample(of_each=3, everywhere=3))
    assert findings.answers >= ANSWERS
    assert findings.rescored >= 2 * len(players.versions)
    assert (findings.by_check, findings.notes, outcome.swap_failures) == ({}, [], [])
    assert outcome.swaps


@pytest.mark.soak
@pytest.mark.timeout(2400)
def test_every_planted_fault_is_caught_and_nothing_is_caught_without_one():
    caught, without = bench.planted_faults()
    assert len(caught) == len(FAULTS) >= 20
    assert [each.fault.name for each in caught if not each.by] == []
    assert without.findings.by_check == {}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_nothing_is_wrong_in_a_storm_that_preempts():
    blown = bench.wrong_weights(500, checks.Sample(of_each=40, everywhere=40))
    assert (blown.findings.by_check, blown.findings.notes) == ({}, [])
    assert blown.preemptions
