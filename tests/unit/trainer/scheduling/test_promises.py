"""What the scheduler promises, on a model of machines that runs by its plans.

`machine.Machine` checks at every tick: memory, cores, limits, no job twice, gangs whole, dependencies, quanta, and
that a plan carried out asks for nothing more.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from services.trainer.scheduling.choosing import Member, Memory, Step, choose
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.state import (
    Dependency,
    Group,
    Job,
    Needs,
    Node,
    Outcome,
    Policy,
    Priority,
    Quota,
    Tenant,
)
from tests.unit.trainer.scheduling.machine import Machine, Model
from tests.unit.trainer.scheduling.worlds import GIB, GROUP, JOINT, MIB, NODE, SOLO, job, used

QUICK = Policy(quantum_seconds=10.0, entry_penalty_seconds=10.0, ageing_seconds=120.0, window_seconds=100.0)
OTHER = Group("sha256:other", "bf16", 2)

ALONE = replace(SOLO, job_bytes=5 * GIB)

NEEDS = some.one_of(
    some.builds(
        lambda size, group: Needs(size * MIB, group.threads, group, 300 * MIB),
        some.integers(10, 400),
        some.sampled_from([GROUP, OTHER]),
    ),
    some.builds(
        lambda size, threads, processes: Needs(size * MIB, threads, processes=processes),
        some.integers(200, 1000),
        some.integers(1, 3),
        some.integers(1, 2),
    ),
)


@some.composite
def workloads(draw, replicas=1):
    """Jobs, nodes and tenants; a few jobs fit nowhere, a few follow others."""
    nodes = [
        Node(f"n{number}", draw(some.integers(1, 3)) * GIB, draw(some.integers(1, 4)), f"r{number % replicas}")
        for number in range(draw(some.integers(replicas, 3)))
    ]
    limits = some.none() | some.integers(1, 3)
    tenants = [
        Tenant(
            name,
            weight=draw(some.sampled_from([1.0, 2.0, 4.0])),
            usage=used(draw(some.sampled_from([0.0, 30.0, 300.0]))),
            quota=Quota(
                resident_bytes=draw(some.none() | some.just(2 * GIB)),
                concurrent_jobs=draw(limits),
                window_tokens=draw(some.none() | some.just(2000)),
            ),
        )
        for name in "abc"
    ]
    jobs: list[Job] = []
    for number in range(draw(some.integers(1, 12))):
        follows = draw(some.lists(some.sampled_from(jobs), max_size=1)) if jobs else []
        at = float(draw(some.integers(0, 60)))
        jobs.append(
            job(
                f"j{number}",
                draw(some.sampled_from("abcd")),
                draw(NEEDS),
                at,
                priority=draw(some.sampled_from(Priority)),
                tokens_left=draw(some.integers(1, 4000)),
                deadline=draw(some.none() | some.just(at + 100.0)),
                after=tuple(Dependency(it.job, Outcome.PENDING) for it in follows),
            )
        )
    return jobs, nodes, tenants


@settings(max_examples=40, deadline=None)
@given(workloads())
def test_every_job_that_fits_ends_and_every_other_is_told_why_not(workload):
    jobs, nodes, tenants = workload
    done = Machine(jobs, nodes, tenants, QUICK).run_all(limit_seconds=5000.0)
    assert done.finished.keys() | done.refused.keys() == {each.job for each in jobs}
    assert not done.finished.keys() & done.refused.keys()


@pytest.mark.parametrize(
    "quota",
    [Quota(concurrent_jobs=2), Quota(resident_bytes=100 * MIB), Quota(window_tokens=700)],
    ids=["jobs", "bytes", "tokens"],
)
def test_limits_hold_at_every_moment_and_keep_nobody_from_ending(quota):
    jobs = [job(f"{tenant}{number}", tenant, tokens_left=300) for tenant in "ab" for number in range(10)]
    machine = Machine(jobs, [NODE], [Tenant("a", quota=quota)], QUICK)
    assert len(machine.run_all(limit_seconds=1000.0).finished) == 20


def test_a_job_that_makes_room_leaves_also_where_its_tenant_has_no_tokens_left_to_end_its_step():
    """Five of `low` have each begun a step when the hour's tokens end; then one of a higher class needs their place."""
    crowd = [job(f"low{number}", "low", replace(JOINT, job_bytes=GIB), tokens_left=10**4) for number in range(5)]
    high = job("high", "high", replace(JOINT, job_bytes=5 * GIB), 40.0, priority=Priority.HIGH, tokens_left=100)
    spent = Tenant("low", quota=Quota(window_tokens=2100))
    machine = Machine([*crowd, high], [replace(NODE, memory_bytes=6 * GIB)], [spent], QUICK)
    done = machine.run(lambda: "high" in machine.outcomes.computed, limit_seconds=60.0)
    assert done.preempted


@settings(max_examples=25, deadline=None)
@given(workloads(replicas=2), some.booleans())
def test_of_two_trainers_over_one_table_one_starts_a_job(workload, serialised):
    jobs, nodes, tenants = workload
    done = Machine(jobs, nodes, tenants, QUICK, Model(serialised=serialised)).run_all(limit_seconds=5000.0)
    assert done.finished.keys() | done.refused.keys() == {each.job for each in jobs}


@pytest.mark.parametrize(
    "quota", [Quota(concurrent_jobs=1), Quota(resident_bytes=ALONE.job_bytes)], ids=["jobs", "bytes"]
)
def test_two_trainers_that_plan_at_once_keep_a_tenants_limits_together(quota):
    """The first job fits one machine alone, so that the other's trainer plans the second beside it."""
    jobs = [job("large", "a", ALONE, tokens_left=300), job("small", "a", at=1.0, tokens_left=300)]
    jobs = [replace(each, queued_at=1.0) for each in jobs]
    nodes = [replace(NODE, node="n0", replica="r0"), replace(NODE, node="n1", replica="r1", memory_bytes=GIB)]
    machine = Machine(jobs, nodes, [Tenant("a", quota=quota)], QUICK, Model(serialised=False))
    assert len(machine.run_all(limit_seconds=200.0).finished) == 2


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("own", [True, False], ids=["of its own tenant", "of another tenant"])
@pytest.mark.parametrize("needs", [JOINT, SOLO, ALONE], ids=["joint", "solo", "solo, memory for one"])
def test_no_job_starves_beside_a_stream_of_a_higher_class(needs, own):
    stream = [
        job(f"s{number}", "stream", one, 20.0 * number, priority=Priority.HIGH, tokens_left=3000)
        for number in range(100)
        for one in [[JOINT, SOLO, ALONE][number % 3]]
    ]
    low = job("low", "stream" if own else "t", needs, 1.0, priority=Priority.LOW, tokens_left=1500)
    machine = Machine([*stream, low], [NODE], (), QUICK, Model(plan_ticks=2))
    machine.run(lambda: "low" in machine.outcomes.finished, limit_seconds=2000.0)


@settings(max_examples=30, deadline=None)
@given(workloads(), some.randoms(use_true_random=False), some.integers(0, 60))
def test_a_plan_does_not_depend_on_the_order_in_which_things_are_listed(workload, random, moment):
    jobs, nodes, tenants = workload
    machine = Machine(jobs, nodes, tenants, QUICK)
    machine.run(lambda: machine.now >= moment, limit_seconds=61.0)
    view = machine.view("r0")
    shuffled = replace(
        view,
        jobs=tuple(random.sample(view.jobs, len(view.jobs))),
        nodes=tuple(random.sample(view.nodes, len(view.nodes))),
        turns=tuple(random.sample(view.turns, len(view.turns))),
        tenants=dict(random.sample(sorted(view.tenants.items()), len(view.tenants))),
    )
    assert plan(view, machine.now) == plan(shuffled, machine.now)


def jain(values: Iterable[float]) -> float:
    """Jain's index: 1 when all are equal."""
    values = list(values)
    return sum(values) ** 2 / (len(values) * sum(value**2 for value in values))


FULL_QUEUES = {
    "joint": {"one": JOINT, "two": JOINT, "four": JOINT},
    "solo, side by side": {"one": SOLO, "two": SOLO, "four": SOLO},
    "solo, memory for one": {"one": ALONE, "two": ALONE, "four": ALONE},
    "mixed": {"one": SOLO, "two": JOINT, "four": SOLO},
    "mixed, the other way": {"one": JOINT, "two": SOLO, "four": JOINT},
}


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize("queues", FULL_QUEUES.values(), ids=FULL_QUEUES)
def test_shares_converge_to_weights(queues):
    jobs = [
        job(f"{tenant}{number}", tenant, needs, tokens_left=10**6)
        for tenant, needs in queues.items()
        for number in range(10)
    ]
    tenants = [Tenant("one", 1.0), Tenant("two", 2.0), Tenant("four", 4.0)]
    machine = Machine(jobs, [NODE], tenants, QUICK, Model(plan_ticks=5))
    done = machine.run(lambda: machine.now >= 1000.0, limit_seconds=1001.0)
    assert jain(done.seconds[tenant.tenant] / tenant.weight for tenant in tenants) >= 0.98


def wait_of_a_high_job(needs: Needs, arrival: float) -> float:
    """Seconds until it computes, beside two hundred joint jobs and three solo ones that fill the memory."""
    crowd = [job(f"j{number}", f"t{number % 3}", JOINT, tokens_left=10**6) for number in range(200)]
    crowd += [job(f"s{number}", f"t{number}", ALONE, tokens_left=10**6) for number in range(3)]
    high = job("high", "t0", needs, arrival, priority=Priority.HIGH, tokens_left=10)
    machine = Machine([*crowd, high], [replace(NODE, memory_bytes=6 * GIB)], (), QUICK)
    done = machine.run(lambda: "high" in machine.outcomes.computed, limit_seconds=arrival + 100.0)
    return done.computed["high"] - arrival


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("arrival", [3.0, 31.0])
@pytest.mark.parametrize("needs", [JOINT, SOLO, ALONE], ids=["joint", "solo", "solo, memory for one"])
def test_a_high_job_computes_within_a_quantum_and_a_checkpoint(needs, arrival):
    model = Model()
    bound = QUICK.quantum_seconds + model.checkpoint_seconds + model.tick_seconds
    assert wait_of_a_high_job(needs, arrival) <= bound


def test_only_who_starved_has_a_quantum_before_a_high_job():
    model = Model()
    bound = 2 * QUICK.quantum_seconds + model.checkpoint_seconds + model.tick_seconds
    assert wait_of_a_high_job(SOLO, QUICK.ageing_seconds - 2.0) <= bound


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("needs", [JOINT, SOLO, ALONE], ids=["joint", "solo", "solo, memory for one"])
@pytest.mark.parametrize("small", [JOINT, SOLO, ALONE], ids=["small joint", "small solo", "small alone"])
def test_a_small_tenant_waits_at_most_three_quanta_beside_a_hundred_jobs_at_once(needs, small):
    many = [job(f"many{number}", "many", needs, tokens_left=2000) for number in range(100)]
    few = [job(f"few{number}", "few", small, 5.0 + 67.0 * number, tokens_left=100) for number in range(2)]
    machine = Machine([*many, *few], [NODE], (), QUICK)
    done = machine.run(lambda: all(one.job in machine.outcomes.finished for one in few), limit_seconds=1000.0)
    waits = [done.computed[one.job] - one.queued_at for one in few]
    assert max(waits) <= 3 * QUICK.quantum_seconds


@pytest.mark.sampled(every=3)
@pytest.mark.parametrize("needs", [JOINT, SOLO, ALONE], ids=["joint", "solo", "solo, memory for one"])
@settings(max_examples=12, deadline=None)
@given(some.lists(some.tuples(some.integers(100, 3000), some.integers(0, 60)), min_size=1, max_size=4))
def test_deadlines_are_met_when_they_can_be(needs, orders):
    """Can be: one after another by deadline, each with a quantum's wait, a checkpoint and a begun optimizer step."""
    model = Model()
    overhead = QUICK.quantum_seconds + 2 * model.checkpoint_seconds + 10.0
    policy = replace(QUICK, deadline_margin_seconds=40.0)
    dated, moment = [], 40.0
    for number, (tokens, slack) in enumerate(orders):
        moment += tokens / model.rate * (policy.joint_gain if needs.group else 1.0) + overhead
        # The tenant that used most: without its deadlines it would come last.
        dated.append(
            job(f"d{number}", "late", needs, deadline=moment + slack, tokens_left=tokens, tokens_per_second=100.0)
        )
    crowd = [job(f"c{number}", f"t{number}", one, tokens_left=10**6) for number, one in enumerate([JOINT, SOLO, ALONE])]
    tenants = [Tenant("late", usage=used(10_000.0))]
    machine = Machine([*crowd, *dated], [NODE], tenants, policy, replace(model, plan_ticks=2))
    done = machine.run(lambda: all(one.job in machine.outcomes.finished for one in dated), limit_seconds=2000.0)
    assert all(done.finished[one.job] <= (one.deadline or 0.0) for one in dated)


def test_two_hundred_mixed_jobs_end_sooner_on_average_than_one_after_another_shortest_first():
    """A joint step gains 2 with 16 jobs of 32 tokens and nothing with one: a fixed cost, and one for each token."""
    tokens = {f"j{number}": 320 * (1 + number * 37 % 200 // 4) for number in range(200)}
    step = Step(budget_tokens=512, max_members=16, tokens_per_second=1.0)

    def step_seconds(count: int) -> float:
        return 36.6 + count

    alone = mean = 0.0
    for count in sorted(tokens.values()):
        alone += count / 32 * step_seconds(32)
        mean += alone / len(tokens)

    memory, moment, ended = Memory(), 0.0, 0.0
    left, done = dict(tokens), Counter[str]()
    while left:
        members = [
            Member(name, f"t{int(name[1:]) % 3}", 32, count, begun=done[name] % 4 != 0) for name, count in left.items()
        ]
        names, memory = choose(members, {}, step, memory)
        moment += step_seconds(32 * len(names))
        for name in names:
            done[name] += 1
            left[name] -= 32
            if not left[name]:
                del left[name]
                ended += moment / len(tokens)
    assert ended / mean <= 0.6
