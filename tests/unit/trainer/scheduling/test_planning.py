"""One decision at a time: who starts, who waits for what, who makes room, who never will start."""

from dataclasses import replace
from typing import Any

from services.trainer.scheduling.actions import Drop, Go, Hold, Preempt, Start, Unfit
from services.trainer.scheduling.state import (
    Dependency,
    Needs,
    Node,
    Outcome,
    Phase,
    Policy,
    Priority,
    Process,
    Quota,
    Tenant,
    Trained,
    Turn,
)
from tests.unit.trainer.scheduling.worlds import (
    GIB,
    GROUP,
    JOINT,
    MIB,
    NODE,
    SOLO,
    changed,
    job,
    planned,
    running,
    state,
    used,
    verdict,
)

GROUP_HERE = Process(("n",), group=GROUP)


def starts(it, now=0.0):
    return [found.job for found in planned(it, now, Start)]


def test_what_fits_starts_at_once_and_its_process_computes():
    assert planned(state(job("a"), job("b")), 0.0) == [Start("a", ("n",), 0), Start("b", ("n",), 0), Go(GROUP_HERE)]


def test_a_group_holds_its_base_once():
    node = replace(NODE, memory_bytes=JOINT.base_bytes + 3 * JOINT.job_bytes)
    assert len(starts(state(*map(job, "abcd"), nodes=(node,)))) == 3


def test_of_a_groups_members_the_one_that_needs_the_largest_passes_decides():
    long = replace(JOINT, base_bytes=JOINT.base_bytes + 2 * JOINT.job_bytes)
    node = replace(NODE, memory_bytes=long.base_bytes + 3 * JOINT.job_bytes)
    # Without the long one there would be room for five.
    assert starts(state(*map(job, "abcdef"), nodes=(node,))) == list("abcde")
    first = job("long", needs=long, at=-1.0)
    assert starts(state(first, *map(job, "abcd"), nodes=(node,))) == ["long", "a", "b"]
    # It is counted from the moment that it comes, not beside what is there.
    room = [running(name) for name in "ab"]
    assert starts(state(*room, first, job("z"), nodes=(node,))) == ["long"]
    # And no more once it has left.
    leaving = replace(running("long", needs=long), phase=Phase.STOPPING)
    assert starts(state(*room, leaving, job("z"), nodes=(node,))) == []
    assert starts(state(*room, *map(job, "xyz"), nodes=(node,))) == ["x", "y", "z"]


def test_the_higher_class_is_before_the_lower_and_the_lighter_user_before_the_heavier():
    tenants = {"heavy": Tenant("heavy", usage=used(900.0)), "light": Tenant("light", usage=used(10.0))}
    jobs = [
        job("a", "heavy"),
        job("b", "light", at=1.0),
        job("c", "heavy", at=2.0, priority=Priority.HIGH),
        job("d", "light", priority=Priority.LOW),
    ]
    assert starts(state(*jobs, tenants=tenants), 3.0) == ["c", "b", "a", "d"]


def test_usage_counts_by_weight():
    tenants = {"x": Tenant("x", weight=1.0, usage=used(100.0)), "y": Tenant("y", weight=4.0, usage=used(300.0))}
    assert starts(state(job("a", "x"), job("b", "y"), tenants=tenants), 1.0) == ["b", "a"]


def test_a_hundred_jobs_at_once_are_a_hundred_turns():
    many = [job(f"many{number}", "many") for number in range(100)]
    order = starts(state(*many, job("z", "few", at=1.0), job("zz", "few", at=1.0)), 1.0)
    assert [order.index("z"), order.index("zz")] == [1, 3]


def test_a_job_no_machine_could_hold_is_refused_with_the_arithmetic():
    huge = Needs(job_bytes=6 * GIB, threads=2, group=GROUP, base_bytes=3 * GIB)
    (refusal,) = planned(state(job("a", needs=huge)), 0.0)
    assert isinstance(refusal, Unfit)
    assert "it needs 9.0 GiB (3.0 GiB of them for the base)" in refusal.why
    assert "8.0 GiB" in refusal.why


def test_a_job_whose_machine_is_away_waits_for_it():
    small, large = replace(NODE, node="s", memory_bytes=GIB), replace(NODE, node="l", alive=False)
    it = state(job("a", needs=SOLO), nodes=(small, large))
    assert planned(it, 0.0) == []
    assert verdict(it, 0.0, "a").why == "no machine that could hold it is there at present"


def test_what_follows_a_job_waits_for_it_and_is_told_when_it_failed():
    it = state(job("b", after=(Dependency("a", Outcome.PENDING),)))
    assert planned(it, 0.0) == []
    assert (verdict(it, 0.0, "b").position, verdict(it, 0.0, "b").why) == (0, "it follows job a")
    for outcome in (Outcome.FAILED, Outcome.CANCELLED):
        gone = changed(it, "b", after=(Dependency("a", outcome),))
        assert planned(gone, 0.0) == [Drop("b", f"it was to follow job a, which has {outcome.value}")]
    assert starts(changed(it, "b", after=(Dependency("a", Outcome.SUCCEEDED),))) == ["b"]


def test_a_dropped_job_takes_along_what_follows_it():
    jobs = [
        job("a", after=(Dependency("z", Outcome.CANCELLED),)),
        job("b", after=(Dependency("a", Outcome.PENDING),)),
    ]
    assert [found.job for found in planned(state(*jobs), 0.0, Drop)] == ["a", "b"]


def test_limits_of_a_tenant_keep_its_jobs_waiting_and_say_which():
    def refused(quota, trained=None):
        it = state(
            running("a"),
            job("b"),
            job("c", "other"),
            tenants={"t": Tenant("t", quota=quota, trained=trained or Trained())},
        )
        assert starts(it, 7200.0) == ["c"]
        return verdict(it, 7200.0, "b").why

    assert refused(Quota(concurrent_jobs=1)) == "1 of your 1 concurrent jobs run already"
    assert "your jobs hold 40 MiB of the 60 MiB you may" in refused(Quota(resident_bytes=60 * MIB))
    assert "have the limit raised" in refused(Quota(resident_bytes=30 * MIB))
    assert "it goes on at 03:00 UTC" in refused(Quota(window_tokens=100), Trained(100, 7200.0))


def test_tokens_of_an_earlier_window_count_no_more():
    tenant = Tenant("t", quota=Quota(window_tokens=100), trained=Trained(100, 7199.0))
    assert starts(state(job("a"), tenants={"t": tenant}), 7200.0) == ["a"]


def test_a_higher_class_takes_the_place_of_a_lower_one_after_its_quantum():
    low = running("low", needs=replace(SOLO, job_bytes=7 * GIB), priority=Priority.LOW)
    it = state(low, job("high", needs=SOLO, priority=Priority.HIGH))
    assert planned(it, 59.0, Preempt) == []
    (preempt,) = planned(it, 60.0, Preempt)
    assert (preempt.job, preempt.beneficiary, preempt.why) == (
        "low",
        "high",
        "a job of a higher class needs the place",
    )
    stopping = changed(it, "low", phase=Phase.STOPPING)
    assert planned(stopping, 61.0) == []
    assert "written their checkpoints" in verdict(stopping, 61.0, "high").why


def test_within_a_limit_of_jobs_a_tenants_higher_class_takes_the_place_of_its_lower_one():
    tenants = {"t": Tenant("t", quota=Quota(concurrent_jobs=1))}
    it = state(running("low", priority=Priority.LOW), job("high", priority=Priority.HIGH), tenants=tenants)
    assert [(it.job, it.beneficiary) for it in planned(it, 60.0, Preempt)] == [("low", "high")]
    assert planned(changed(it, "low", phase=Phase.STOPPING), 60.0, Preempt, Start) == []


def test_who_has_just_got_the_cores_keeps_its_place_for_a_quantum():
    low = running("low", needs=replace(SOLO, job_bytes=7 * GIB), priority=Priority.LOW)
    turns = (Turn(Process(("n",), job="low"), True, 100.0),)
    it = state(low, job("high", needs=SOLO, priority=Priority.HIGH), turns=turns)
    assert planned(it, 159.0, Preempt) == []
    assert len(planned(it, 160.0, Preempt)) == 1


def test_who_has_been_in_memory_for_long_without_a_step_is_not_stopped_before_it_had_one():
    low = running("low", needs=replace(SOLO, job_bytes=7 * GIB), priority=Priority.LOW, stepped_at=0.0)
    it = state(low, job("high", needs=SOLO, at=3599.0, priority=Priority.HIGH))
    assert len(planned(it, 3599.0, Preempt)) == 1
    assert planned(it, 3600.0, Preempt) == []
    for known in (3000.0, None):
        assert len(planned(changed(it, "low", stepped_at=known), 3600.0, Preempt)) == 1


def test_what_runs_on_a_machine_that_is_lost_is_neither_started_again_nor_counted():
    nodes = (NODE, replace(NODE, node="m", alive=False))
    it = state(running("a", needs=SOLO, nodes=("m",)), nodes=nodes)
    assert planned(it, 100.0) == []
    assert "does not answer" in verdict(it, 100.0, "a").why


def test_no_more_are_stopped_than_make_room():
    lows = [running(f"low{number}", needs=replace(SOLO, job_bytes=GIB), priority=Priority.LOW) for number in range(8)]
    it = state(*lows, job("high", needs=SOLO, priority=Priority.HIGH))
    assert len(planned(it, 100.0, Preempt)) == 2


def test_a_tenant_over_its_share_makes_room_for_one_under_and_for_nobody_else():
    full = replace(NODE, memory_bytes=3 * GIB)

    def victims(over, under):
        tenants = {"over": Tenant("over", usage=used(over)), "under": Tenant("under", usage=used(under))}
        it = state(running("a", "over", SOLO), job("b", "under", SOLO), nodes=(full,), tenants=tenants)
        return [found.job for found in planned(it, 100.0, Preempt)]

    assert victims(500.0, 0.0) == ["a"]
    assert victims(500.0, 450.0) == []
    assert victims(0.0, 500.0) == []


def test_having_used_little_is_no_right_to_all_the_memory():
    node = replace(NODE, memory_bytes=JOINT.base_bytes + 10 * JOINT.job_bytes)
    tenants = {"over": Tenant("over", usage=used(5000.0)), "under": Tenant("under")}
    jobs = [running(f"a{number}", "over") for number in range(10)] + [
        job(f"b{number}", "under") for number in range(10)
    ]
    assert len(planned(state(*jobs, nodes=(node,), tenants=tenants), 100.0, Preempt)) == 5


def test_small_jobs_do_not_starve_a_large_one():
    large = job("large", needs=replace(SOLO, job_bytes=7 * GIB))
    it = state(running("a", "other", SOLO), large, job("small", at=1.0, needs=replace(JOINT, job_bytes=MIB)))
    assert starts(it, 2.0) == []
    assert "kept for it" in verdict(it, 2.0, "large").why
    assert "kept for jobs before it in line" in verdict(it, 2.0, "small").why


def test_a_gang_starts_whole_and_keeps_its_places_until_then():
    gang = job("gang", needs=replace(SOLO, job_bytes=8 * GIB - MIB, processes=2))
    nodes = (NODE, replace(NODE, node="m"))
    busy = state(running("a", "other", replace(SOLO, job_bytes=5 * GIB)), gang, job("small", at=1.0), nodes=nodes)
    assert starts(busy, 2.0) == []
    free = state(gang, job("small", at=1.0), nodes=nodes)
    assert planned(free, 2.0, Start)[0] == Start("gang", ("m", "n"), 0)


def test_where_machines_come_and_go_a_gang_waits_for_them_unless_none_could_hold_a_part_of_it():
    gang = job("gang", needs=replace(SOLO, job_bytes=5 * GIB, threads=NODE.cores, processes=2))
    cluster = state(gang, elastic=True)
    assert planned(cluster, 2.0) == []
    assert verdict(cluster, 2.0, "gang").why == "no machine that could hold it is there at present"
    large = job("gang", needs=replace(SOLO, job_bytes=9 * GIB, processes=2))
    for hopeless in (state(large, elastic=True), state(gang)):
        (refused,) = planned(hopeless, 2.0)
        assert isinstance(refused, Unfit)
        assert "for each of 2 processes" in refused.why


def test_a_gang_computes_on_all_its_nodes_or_on_none():
    gang = running("gang", needs=replace(SOLO, processes=2), nodes=("m", "n"), since=1.0)
    nodes = (NODE, replace(NODE, node="m"))
    turns = (Turn(GROUP_HERE, True, 0.0),)
    it = state(
        running("a", "other"), gang, nodes=nodes, turns=turns, tenants={"other": Tenant("other", usage=used(9.0))}
    )
    assert planned(it, 59.0) == []
    assert planned(it, 60.0) == [Hold(GROUP_HERE), Go(Process(("m", "n"), job="gang"))]


def test_solo_and_joint_take_turns_on_the_cores_by_what_their_tenants_used():
    solo = Process(("n",), job="solo")

    def it(joint, alone):
        tenants = {"joint": Tenant("joint", usage=used(joint)), "solo": Tenant("solo", usage=used(alone))}
        turns = (Turn(GROUP_HERE, True, 0.0), Turn(solo, False, 0.0))
        return state(running("a", "joint"), running("solo", "solo", SOLO), turns=turns, tenants=tenants)

    assert planned(it(100.0, 50.0), 59.0) == []
    assert planned(it(100.0, 50.0), 60.0) == [Hold(GROUP_HERE), Go(solo)]
    assert planned(it(50.0, 100.0), 60.0) == []
    assert "next turn on the cores" in verdict(it(50.0, 100.0), 60.0, "solo").why


def test_a_job_that_computes_and_takes_no_step_is_told_why():
    def why(stepped, beside, now, **node):
        turns = (Turn(GROUP_HERE, True, 100.0),)
        jobs = running("a", stepped_at=stepped), running("b", stepped_at=beside)
        return verdict(state(*jobs, nodes=(replace(NODE, **node),), turns=turns), now, "a").why

    assert why(110.0, 110.0, 140.0, serving_cores=1.0) == ""
    assert "its machine answers requests" in why(110.0, 112.0, 143.0, serving_cores=1.0)
    assert "a step of it takes long" in why(110.0, 112.0, 143.0)
    assert "others that train with it" in why(110.0, 140.0, 143.0, serving_cores=1.0)
    # It has had the cores for less long than that.
    assert why(0.0, 0.0, 130.0, serving_cores=1.0) == ""
    assert "its machine answers requests" in why(0.0, 0.0, 131.0, serving_cores=1.0)
    # Nobody knows of its steps.
    assert why(None, 140.0, 500.0, serving_cores=1.0) == ""


def test_a_silent_job_is_told_of_those_who_use_the_cores_and_of_nobody_who_is_idle():
    def why(**used):
        turns = (Turn(GROUP_HERE, True, 0.0),)
        node = replace(NODE, cores=4, **used)
        return verdict(state(running("a", stepped_at=0.0), nodes=(node,), turns=turns), 60.0, "a").why

    assert why() == why(serving_cores=0.9, other_cores=0.9) == "it is starting, or a step of it takes long"
    assert "other programs than the suite's" in why(serving_cores=1.5, other_cores=1.6)
    assert "its machine answers requests" in why(serving_cores=1.5, other_cores=1.4)


def test_a_joint_job_whose_rows_are_still_read_is_told_that_and_not_that_others_take_its_steps():
    def why(now, *, beside=0.0, needs=JOINT, read=True, **node):
        process = GROUP_HERE if needs.group else Process(("n",), job="a")
        jobs = running("a", needs=needs, stepped_at=0.0, prepared=False), running("b", stepped_at=beside, prepared=read)
        nodes = (replace(NODE, **node),)
        return verdict(state(*jobs, nodes=nodes, turns=(Turn(process, True, 0.0),)), now, "a").why

    assert why(30.0) == ""
    assert why(31.0, beside=30.0) == "it joins when its rows are read"
    assert why(31.0, read=False).startswith("it joins when its rows are read: one job's after another's")
    # Who reads alone waits for nobody's turn, but maybe for the cores.
    busy = why(31.0, other_cores=2.0)
    assert busy.startswith(
        "it joins when its rows are read. Meanwhile other programs than the suite's keep its machine busy"
    )
    # One that trains alone reads them as it begins.
    assert "it is starting" in why(31.0, needs=SOLO)


def test_both_compute_where_there_are_cores_for_both():
    wide = replace(NODE, cores=4)
    it = state(running("a"), running("solo", needs=SOLO), nodes=(wide,))
    assert {found.process.job for found in planned(it, 0.0, Go)} == {"", "solo"}


def test_a_process_that_waits_long_for_the_cores_gets_them_whatever_its_class():
    turns = (Turn(Process(("n",), job="solo"), True, 0.0), Turn(GROUP_HERE, False, 0.0))
    it = state(running("a", "x"), running("solo", "y", SOLO, priority=Priority.HIGH), turns=turns)
    it = replace(it, tenants={"y": Tenant("y", usage=used(1000.0))})
    assert planned(it, 1700.0) == []
    assert Go(GROUP_HERE) in planned(it, 1800.0)


def test_a_tenant_has_no_second_solo_job_beside_one_that_takes_the_cores():
    it = state(running("a", needs=SOLO), job("b", needs=SOLO), job("c", "other", SOLO))
    assert starts(it, 1.0) == ["c"]
    assert "another job of yours" in verdict(it, 1.0, "b").why


def test_jobs_of_one_group_spread_over_nodes():
    nodes = (NODE, replace(NODE, node="m"))
    placed = [found.nodes for found in planned(state(*map(job, "abcd"), nodes=nodes), 0.0, Start)]
    assert sorted(placed) == [("m",), ("m",), ("n",), ("n",)]


def test_what_another_trainer_holds_counts_and_is_not_touched():
    nodes = (replace(NODE, replica="us"), replace(NODE, node="m", replica="them"))
    theirs = running("a", nodes=("m",), replica="them", priority=Priority.LOW)
    quota = {"t": Tenant("t", quota=Quota(concurrent_jobs=1))}
    it = state(theirs, job("b", priority=Priority.HIGH), nodes=nodes, replica="us", tenants=quota)
    assert planned(it, 100.0) == []
    assert starts(replace(it, tenants={}), 100.0) == ["b"]
    assert planned(replace(it, tenants={}), 100.0, Start)[0].nodes == ("n",)


def test_nobody_is_stopped_where_another_trainer_has_room():
    nodes = (replace(NODE, replica="us"), replace(NODE, node="m", replica="them"))
    ours = running("a", needs=replace(SOLO, job_bytes=7 * GIB), replica="us", priority=Priority.LOW)
    it = state(ours, job("b", needs=SOLO, priority=Priority.HIGH), nodes=nodes, replica="us")
    assert planned(it, 100.0, Preempt, Start) == []
    assert verdict(it, 100.0, "b").why == "another machine has room and takes it next"


def test_a_deadline_counts_once_no_time_is_left_and_only_while_it_can_be_met():
    late = job("late", "heavy", deadline=1000.0, tokens_left=500, tokens_per_second=1.0, at=5.0)
    tenants = {"heavy": Tenant("heavy", usage=used(50.0))}
    it = state(late, job("a", "light"), tenants=tenants, policy=Policy(joint_gain=1.0))
    assert starts(it, 10.0) == ["a", "late"]
    assert starts(it, 300.0) == ["late", "a"]
    assert starts(it, 600.0) == ["a", "late"]


def test_who_waits_is_told_when_its_deadline_is_past_hope():
    work: dict[str, Any] = {"tokens_left": 100, "tokens_per_second": 1.0, "deadline": 1000.0}
    away = (Node("n", GIB, 2, alive=False),)
    it = state(job("a", **work), job("b", deadline=1000.0), nodes=away)
    assert verdict(it, 900.0, "a").why == "no machine is there at present"
    assert verdict(it, 901.0, "a").why == "no machine is there at present; its deadline can no longer be met"
    assert verdict(it, 1000.0, "b").why == "no machine is there at present"
    assert verdict(it, 1001.0, "b").why == "no machine is there at present; its deadline has passed"
    # One that trains does not wait.
    stepping = running("a", stepped_at=1000.0, **work)
    assert verdict(state(stepping, turns=(Turn(GROUP_HERE, True, 0.0),)), 1001.0, "a").why == ""
    silent = verdict(state(stepping, turns=(Turn(GROUP_HERE, True, 0.0),)), 1031.0, "a").why
    assert silent.endswith("a step of it takes long; its deadline has passed")


def test_a_class_of_which_a_tenant_gets_nothing_is_lifted_one_job_at_a_time():
    it = state(
        job("low", "poor", priority=Priority.LOW),
        job("low2", "poor", priority=Priority.LOW),
        job("high", "rich", at=3600.0, priority=Priority.HIGH),
        tenants={"rich": Tenant("rich", usage=used(1000.0))},
    )
    assert starts(it, 3599.0) == ["high", "low", "low2"]
    assert starts(it, 3600.0) == ["low", "high", "low2"]
    served = Tenant("poor", started={Priority.LOW: 3500.0})
    assert starts(replace(it, tenants={**it.tenants, "poor": served}), 3600.0)[0] == "high"
    busy = replace(it, jobs=(*it.jobs, running("low3", "poor", priority=Priority.LOW)))
    assert starts(busy, 3600.0)[0] == "high"


def test_a_high_job_waits_for_no_crowd_of_its_own_tenants_that_waits_longer():
    crowd = [job(f"a{number}") for number in range(100)]
    order = starts(state(*crowd, job("high", at=7000.0, priority=Priority.HIGH)), 7000.0)
    assert order.index("high") <= 1


def test_people_are_told_when_their_jobs_will_start_and_end():
    node = replace(NODE, memory_bytes=3 * GIB)
    work: dict[str, Any] = {"tokens_left": 1000, "tokens_per_second": 10.0}
    it = state(running("a", needs=SOLO, **work), job("b", "u", SOLO, **work), job("c", "v", SOLO), nodes=(node,))
    told = verdict(it, 50.0, "b")
    assert (told.position, told.estimated_start, told.estimated_finish) == (1, 150.0, 250.0)
    assert verdict(it, 50.0, "a").estimated_finish == 150.0
    assert verdict(it, 50.0, "c").estimated_finish is None


def test_the_policy_is_the_operators():
    low = running("low", needs=replace(SOLO, job_bytes=7 * GIB), priority=Priority.LOW)
    it = state(low, job("high", needs=SOLO, priority=Priority.HIGH), policy=Policy(quantum_seconds=5.0))
    assert len(planned(it, 5.0, Preempt)) == 1


def test_no_machine_at_all_is_said_and_nothing_is_refused():
    it = state(job("a"), nodes=(Node("n", GIB, 2, alive=False),))
    assert planned(it, 0.0) == []
    assert verdict(it, 0.0, "a").why == "no machine is there at present"
