"""Which jobs take part in a joint step."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.trainer.scheduling.choosing import Member, Memory, Share, Step, choose
from services.trainer.scheduling.state import Priority

STEP = Step(budget_tokens=100, max_members=4, tokens_per_second=100.0)


def chosen(members, shares=None, step=STEP):
    return choose(members, shares or {}, step, Memory())[0]


def member(job, tenant="t", unit_tokens=10, tokens_left=1000, **fields):
    return Member(job, tenant, unit_tokens, tokens_left, **fields)


def shares_of(members, shares, steps, step=STEP):
    """Tokens that each tenant gets over so many steps."""
    had: Counter[str] = Counter()
    memory = Memory()
    by_name = {each.job: each for each in members}
    for _ in range(steps):
        names, memory = choose(members, shares, step, memory)
        for name in names:
            had[by_name[name].tenant] += by_name[name].unit_tokens
    return had


def test_a_step_takes_the_jobs_with_the_least_left():
    members = [member(f"j{left}", tokens_left=left) for left in (50, 10, 40, 20, 30)]
    assert chosen(members) == ("j10", "j20", "j30", "j40")


def test_a_step_holds_its_budget_and_what_alone_is_larger_goes_alone():
    assert chosen([member("a", unit_tokens=60), member("b", unit_tokens=60), member("c", unit_tokens=40)]) == ("a", "c")
    assert chosen([member("a", unit_tokens=500), member("b")]) == ("a",)


def test_what_is_left_of_a_step_goes_to_those_with_the_most_steps_to_go():
    """Of 40 tokens the long ones take 40: `many` has 60 steps to go, `few` as many tokens but 30 steps."""
    members = [member("next", unit_tokens=60, tokens_left=60), member("large", unit_tokens=50, tokens_left=100)]
    members += [
        member("short", tokens_left=200),
        member("few", unit_tokens=20, tokens_left=600),
        member("many", unit_tokens=10, tokens_left=600),
        member("more", unit_tokens=30, tokens_left=1200),
    ]
    assert chosen(members) == ("next", "many", "more")


def test_a_unit_that_is_large_itself_turns_no_order_around():
    members = [member("short", tokens_left=10), member("large", unit_tokens=95, tokens_left=95)]
    members += [member(f"j{left}", tokens_left=left) for left in (100, 200, 300, 400)]
    assert chosen(members) == ("short", "j100", "j200", "j300")


def test_who_has_begun_an_optimizer_step_ends_it_first():
    members = [member("high", priority=Priority.HIGH), member("begun", tokens_left=9999, begun=True)]
    assert chosen(members) == ("begun", "high")


def test_who_is_to_leave_ends_its_step_before_everybody_and_also_when_its_tenant_may_train_no_more():
    members = [
        member("pressing", pressing=True, deadline=10.0),
        member("begun", begun=True),
        member("leaving", "spent", begun=True, leaving=True, tokens_left=9999),
        member("staying", "spent", begun=True),
    ]
    shares = {"spent": Share(tokens_left=0)}
    assert chosen(members, shares) == ("leaving", "pressing")
    assert chosen(members[2:], shares) == ("leaving",)


def test_what_a_job_trains_to_leave_counts_for_its_tenant():
    members = [member("leaving", unit_tokens=30, begun=True, leaving=True), member("staying", begun=True)]
    assert chosen(members, {"t": Share(tokens_left=30)}) == ("leaving",)
    _, memory = choose(members, {}, STEP, Memory())
    assert memory.accounts["t"].seconds == pytest.approx(0.4)


def test_the_higher_class_goes_first():
    members = [
        member("low", priority=Priority.LOW, tokens_left=1),
        member("normal", pressing=True),
        member("high", priority=Priority.HIGH),
    ]
    assert chosen(members) == ("high", "normal", "low")


def test_who_has_no_time_to_lose_is_not_slowed_down_by_the_others():
    members = [
        member("calm", tokens_left=1),
        member("begun", begun=True),
        member("later", pressing=True, deadline=20.0, tokens_left=1),
        member("first", pressing=True, deadline=10.0),
    ]
    assert chosen(members) == ("first", "later")


def test_tenants_get_tokens_by_weight():
    members = [member(f"{tenant}{number}", tenant) for tenant in "abc" for number in range(20)]
    had = shares_of(members, {"a": Share(1.0), "b": Share(2.0), "c": Share(4.0)}, 700)
    assert had["b"] / had["a"] == pytest.approx(2.0, rel=0.02)
    assert had["c"] / had["a"] == pytest.approx(4.0, rel=0.02)


def test_a_tenant_of_many_jobs_gets_no_more_than_one_of_few():
    members = [member(f"many{number}", "many") for number in range(100)] + [
        member(f"few{number}", "few") for number in range(4)
    ]
    had = shares_of(members, {}, 200)
    assert had["few"] == pytest.approx(had["many"], rel=0.02)


def test_what_a_tenant_has_used_before_is_made_up_for_up_to_a_limit():
    members = [member(f"{tenant}{number}", tenant) for tenant in ("old", "new") for number in range(8)]
    step = Step(budget_tokens=40, max_members=4, tokens_per_second=10.0, open_every=1000, max_lag_seconds=20.0)
    had = shares_of(members, {"old": Share(used_seconds=1e6)}, 100, step)
    # 400 seconds of machine in all: 20 of them make up for what was used before, and the rest is halved.
    assert had == {"new": 2100, "old": 1900}


def test_what_a_tenant_uses_elsewhere_counts_here():
    members = [member(f"{tenant}{number}", tenant) for tenant in "ab" for number in range(8)]
    _, memory = choose(members, {}, STEP, Memory())
    names, _ = choose(members, {"a": Share(used_seconds=5.0)}, STEP, memory)
    assert {name[0] for name in names} == {"b"}


def test_what_a_tenant_was_charged_for_its_steps_here_is_not_counted_twice():
    """The books say of one tenant what it had here, and of the other that and as much again from elsewhere."""
    members = [member(f"{tenant}{number}", tenant) for tenant in "ab" for number in range(8)]
    had: Counter[str] = Counter()
    memory = Memory()
    for _ in range(300):
        shares = {"a": Share(used_seconds=2 * had["a"] / 100), "b": Share(used_seconds=had["b"] / 100)}
        names, memory = choose(members, shares, STEP, memory)
        had.update({name[0]: 0 for name in names})
        for name in names:
            had[name[0]] += 10
    assert had["b"] == pytest.approx(2 * had["a"], rel=0.05)


def test_a_tenant_without_tokens_left_trains_nothing():
    members = [member(f"{tenant}{number}", tenant, 30) for tenant in "ab" for number in range(4)]
    shares = {"a": Share(tokens_left=0), "b": Share(tokens_left=31)}
    # Whoever has any left may take one more unit: a unit cannot be cut.
    assert chosen(members, shares) == ("b0", "b1")
    assert chosen([member("a", begun=True)], {"t": Share(tokens_left=0)}) == ()


def test_every_job_moves_however_many_are_shorter_or_of_a_higher_class():
    members = [member(f"short{number}", tokens_left=1) for number in range(20)]
    members += [member(f"high{number}", "u", priority=Priority.HIGH) for number in range(20)]
    members += [member("long", tokens_left=10**9), member("low", "u", priority=Priority.LOW)]
    memory = Memory()
    seen: Counter[str] = Counter()
    for _ in range(STEP.open_every * len(members)):
        names, memory = choose(members, {}, STEP, memory)
        seen.update(names)
    assert seen.keys() == {each.job for each in members}
    assert seen["high0"] > 10 * seen["low"]


MEMBERS = some.lists(
    some.builds(
        Member,
        job=some.uuids().map(str),
        tenant=some.sampled_from("abc"),
        unit_tokens=some.integers(1, 150),
        tokens_left=some.integers(0, 1000),
        priority=some.sampled_from(Priority),
        begun=some.booleans(),
        leaving=some.booleans(),
        pressing=some.booleans(),
        deadline=some.sampled_from([1.0, 2.0]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda each: each.job,
)


@given(MEMBERS, some.randoms(use_true_random=False), some.integers(0, 20))
def test_whatever_the_members_a_step_keeps_its_bounds_and_their_order_does_not_matter(members, random, steps):
    shares = {"a": Share(1.0, 10.0), "b": Share(3.0, tokens_left=40)}
    memory = Memory(steps=steps)
    sizes = {each.job: each.unit_tokens for each in members}
    tenants = {each.job: each.tenant for each in members}
    names, after = choose(members, shares, STEP, memory)
    assert len(set(names)) == len(names) <= STEP.max_members
    assert bool(names)
    assert len(names) == 1 or sum(sizes[name] for name in names) <= STEP.budget_tokens
    leaving = {each.job for each in members if each.leaving}
    of_b = [sizes[name] for name in names if tenants[name] == "b" and name not in leaving]
    assert sum(of_b[:-1]) < 40
    shuffled = list(members)
    random.shuffle(shuffled)
    assert choose(shuffled, shares, STEP, memory) == (names, after)


@given(MEMBERS)
def test_nobody_waits_longer_than_everybody_else_takes(members):
    memory = Memory()
    seen: set[str] = set()
    for _ in range(STEP.open_every * len(members)):
        names, memory = choose(members, {}, STEP, memory)
        seen.update(names)
    assert seen == {each.job for each in members}
