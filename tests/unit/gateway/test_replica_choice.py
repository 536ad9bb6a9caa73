"""Which of several generators a request goes to: by what it holds, how busy it is, and what it has read before."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.generation import Message, Speaker
from gateway.generator import EngineState
from gateway.peers.pool import several
from gateway.replicas.affinity import affinity
from gateway.replicas.choice import COST_ANSWERS, STICKY_ANSWERS, Nearness, Replica, chosen
from gateway.replicas.ejection import CONSECUTIVE_FAILURES, FIRST_SECONDS, LONGEST_SECONDS, Ejection, Standing
from gateway.replicas.known import EngineLoad, Known
from services.chassis.context import Bearer, RequestContext, Role, serving
from tests.harness.clock import ManualClock

REPLICAS = st.lists(
    st.builds(
        Replica,
        address=st.integers(0, 40).map("replica-{}".format),
        load=st.floats(0, 50),
        nearness=st.sampled_from(Nearness),
        usable=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda replica: replica.address,
)


@given(replicas=REPLICAS, key=st.text(max_size=4), seed=st.integers(), left_out=st.integers(0, 2))
def test_the_choice_is_one_that_is_there_and_usable_where_any_is(replicas, key, seed, left_out):
    excluded = {replica.address for replica in replicas[:left_out]}
    picked = chosen(replicas, key, Random(seed).randrange, excluded)
    there = {replica.address: replica for replica in replicas if replica.address not in excluded}
    if not there:
        assert picked is None
        return
    assert picked in there
    if any(replica.usable for replica in there.values()):
        assert there[picked].usable


@given(replicas=REPLICAS.filter(len), seed=st.integers(), key=st.text(max_size=4))
def test_no_choice_costs_more_than_the_holder_by_more_than_stickiness_is_worth(replicas, seed, key):
    alike = [replace(replica, usable=True) for replica in replicas]
    picked = chosen(alike, key, Random(seed).randrange)
    cost = {replica.address: replica.cost for replica in alike}
    nearest = max(replica.nearness for replica in alike)
    holders = [replica for replica in alike if replica.nearness is nearest]
    # Of several holders two are looked at, so that the worst of them all bounds it.
    bound = max(sorted(holder.cost for holder in holders)[: max(1, len(holders) - 1)])
    assert cost[picked] <= bound + STICKY_ANSWERS + 1e-9


def test_a_holder_is_preferred_until_it_is_busier_than_loading_elsewhere_costs():
    idle = [Replica(f"idle-{at}", 0.0, Nearness.REMOTE) for at in range(3)]
    limit = COST_ANSWERS[Nearness.REMOTE]
    for load, expected in ((0.0, True), (limit - 0.5, True), (limit + 0.5, False)):
        holder = Replica("holder", load, Nearness.SLOT)
        picks = {chosen([*idle, holder], "", Random(seed).randrange) for seed in range(20)}
        assert (picks == {"holder"}) is expected, load
        assert ("holder" in picks) is expected


def test_a_key_has_one_place_that_others_coming_and_going_do_not_move():
    replicas = [Replica(f"replica-{at}", 0.0, Nearness.SLOT) for at in range(8)]
    places = {key: chosen(replicas, str(key), Random(key).randrange) for key in range(400)}
    assert len(set(places.values())) == 8
    assert max(Counter(places.values()).values()) < 100
    gone = "replica-3"
    left = [replica for replica in replicas if replica.address != gone]
    moved = {key for key, place in places.items() if chosen(left, str(key), Random(1).randrange) != place}
    assert moved == {key for key, place in places.items() if place == gone}


def test_a_place_that_is_busy_yields():
    replicas = [Replica(f"replica-{at}", 0.0, Nearness.SLOT) for at in range(4)]
    place = chosen(replicas, "key", Random(0).randrange)
    for load, stays in ((STICKY_ANSWERS, True), (STICKY_ANSWERS + 0.1, False)):
        busy = [replace(replica, load=load if replica.address == place else 0.0) for replica in replicas]
        picks = {chosen(busy, "key", Random(seed).randrange) for seed in range(10)}
        assert (picks == {place}) is stays


def test_where_what_is_known_is_old_the_load_is_shared_all_the_same():
    """A thousand requests of which replicas tell only every fifty: nobody gets them all, as the least loaded would."""
    random, loads = Random(7), dict.fromkeys(range(10), 0)
    for start in range(0, 1000, 50):
        known = [Replica(str(at), float(load), Nearness.SLOT) for at, load in loads.items()]
        for _ in range(start, start + 50):
            loads[int(chosen(known, "", random.randrange) or 0)] += 1
    assert max(loads.values()) < 1.3 * min(loads.values())


def test_a_replica_that_fails_is_left_alone_then_tried_once_at_a_time():
    clock = ManualClock()
    ejection = Ejection(clock)
    for _ in range(CONSECUTIVE_FAILURES - 1):
        ejection.failed()
    ejection.succeeded()
    for _ in range(CONSECUTIVE_FAILURES - 1):
        ejection.failed()
    assert ejection.usable
    ejection.failed()
    assert (ejection.standing, ejection.usable) == (Standing.EJECTED, False)
    clock.now = FIRST_SECONDS
    assert ejection.usable
    assert ejection.sent()
    assert not ejection.usable
    ejection.succeeded()
    ejection.ended(True)
    assert (ejection.standing, ejection.usable) == (Standing.IN, True)


@given(rounds=st.integers(1, 10))
def test_each_trial_that_fails_ejects_for_twice_as_long_up_to_a_bound(rounds):
    clock = ManualClock()
    ejection = Ejection(clock)
    for _ in range(CONSECUTIVE_FAILURES):
        ejection.failed()
    seconds = FIRST_SECONDS
    for _ in range(rounds):
        clock.advance(seconds - 0.001)
        before = ejection.standing
        clock.advance(0.001)
        assert (before, ejection.standing) == (Standing.EJECTED, Standing.PROBATION)
        trial = ejection.sent()
        ejection.failed()
        ejection.ended(trial)
        seconds = min(seconds * 2, LONGEST_SECONDS)


def test_silence_ejects_like_failures_and_counting_tokens_neither_hides_it_nor_lets_the_replica_back():
    clock = ManualClock()
    ejection = Ejection(clock)
    for _ in range(CONSECUTIVE_FAILURES):
        ejection.succeeded()
        ejection.kept_silent()
    standings = [ejection.standing]
    clock.now = FIRST_SECONDS
    ejection.succeeded()
    standings.append(ejection.standing)
    ejection.spoke()
    ejection.succeeded()
    assert [*standings, ejection.standing] == [Standing.EJECTED, Standing.PROBATION, Standing.IN]


def test_a_word_of_its_engine_ends_a_row_of_silences_but_no_row_of_failures():
    ejection = Ejection(lambda: 0.0)
    for _ in range(CONSECUTIVE_FAILURES - 1):
        ejection.failed()
        ejection.kept_silent()
    ejection.spoke()
    ejection.kept_silent()
    assert ejection.usable
    ejection.failed()
    assert not ejection.usable


def test_a_trial_that_ended_otherwise_may_be_followed_by_another():
    clock = ManualClock()
    ejection = Ejection(clock)
    earlier = ejection.sent()
    for _ in range(CONSECUTIVE_FAILURES):
        ejection.failed()
    clock.now = FIRST_SECONDS
    trial = ejection.sent()
    ejection.ended(earlier)
    assert not ejection.usable
    ejection.ended(trial)
    assert ejection.usable


@pytest.fixture
def known():
    told = Known()
    told.begin()
    told.engine("main", EngineLoad(EngineState.READY, "tiny", "sha256:b", "", 3))
    told.adapter("sha256:v", Nearness.SLOT)
    told.adapter("sha256:w", Nearness.FILE)
    told.caught_up()
    return told


def test_what_a_replica_tells_says_what_is_near_and_how_busy_it_is(known):
    assert known.nearness("sha256:v", "") is Nearness.SLOT
    assert known.nearness("sha256:w", "") is Nearness.FILE
    assert known.nearness("sha256:x", "") is Nearness.REMOTE
    assert [known.nearness("", base) for base in ("", "tiny", "sha256:b", "other")] == [
        Nearness.SLOT, Nearness.SLOT, Nearness.SLOT, Nearness.REMOTE
    ]  # fmt: skip
    known.outstanding += 2
    assert known.load == 5
    known.engine("main", EngineLoad(EngineState.READY, "tiny", "sha256:b", "", 5))
    assert known.load == 5


def test_what_left_while_nothing_was_heard_is_not_believed_for_ever(known):
    known.lost()
    assert not known.takes_requests
    known.begin()
    known.engine("main", EngineLoad(EngineState.READY, "tiny", "sha256:b", "", 0))
    assert known.nearness("sha256:v", "") is Nearness.SLOT
    known.caught_up()
    assert known.nearness("sha256:v", "") is Nearness.REMOTE
    assert known.takes_requests


def test_a_replica_that_drains_takes_nothing_new(known):
    known.engine("main", EngineLoad(EngineState.DRAINING, "tiny", "sha256:b", "", 3))
    assert not known.takes_requests


def conversation(*turns):
    speakers = {"s": Speaker.SYSTEM, "u": Speaker.USER, "a": Speaker.ASSISTANT}
    return [Message(speakers[who], text) for who, text in turns]


def keyed(prompt, sticky="", version="v", tenant="ada"):
    with serving(RequestContext(tenant, "key", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Chat")):
        return affinity(prompt, sticky, version)


def test_a_conversation_keeps_its_key_however_long_it_becomes_and_nobody_elses():
    opening = (("s", "You answer questions about ferries and nothing else at all."), ("u", "What is a day ticket?"))
    first = keyed(conversation(*opening))
    assert first
    assert keyed(conversation(*opening, ("a", "9 crowns."), ("u", "And a child's?"))) == first
    assert keyed(conversation(opening[0], ("u", "Do dogs pay?"))) != first
    assert keyed(conversation(*opening), version="w") != first
    assert keyed(conversation(*opening), tenant="bob") != first


def test_what_shares_nothing_worth_keeping_has_no_key_but_who_names_one_does():
    assert keyed(conversation(("u", "Hello"))) == ""
    assert keyed("a text to continue" * 20) == ""
    assert keyed("a text", sticky="anna") == keyed(conversation(("u", "Hello")), sticky="anna") != ""


@pytest.mark.parametrize(
    ("address", "many"), [("127.0.0.1:50056", False), ("a:1,b:1", True), ("dns:///generators:50056", True)]
)
def test_several_replicas_are_named_by_a_list_or_by_a_name_that_is_looked_up(address, many):
    assert several(address) is many
