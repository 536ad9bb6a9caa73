"""Successive halving: who goes on, whatever comes in whichever order."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.sweeping.halving import Rules, Standing, decide, kept_members, ranking

LOSSES = st.one_of(st.floats(0, 10), st.sampled_from([1.0, 2.0, math.nan, math.inf]))


@dataclass(frozen=True, slots=True)
class Course:
    """What a member will show at each rung and in the end, and before which of them it is lost or ends early."""

    scores: tuple[float, ...]
    final: float
    lost_before: int | None
    ends_before: int | None

    def standing(self, reached: int) -> Standing:
        """What is known once it has come as far as rung `reached`; one more than there are is the end."""
        end = self.ends_before or len(self.scores) + 1
        lost = self.lost_before or end + len(self.scores) + 1
        scores = {rung: self.scores[rung - 1] for rung in range(1, min(reached + 1, end, lost))}
        # Whoever is lost behind its end was cancelled while it waited.
        trained = reached >= end and end < lost
        return Standing(scores, trained, self.final if trained else None, reached >= lost)


@st.composite
def races(draw: st.DrawFn) -> tuple[Rules, list[Course]]:
    """Rules, and members' courses under them."""
    rungs = draw(st.integers(0, 3))
    rules = Rules(rungs, draw(st.sampled_from([0.1, 1 / 3, 0.5, 0.9])), draw(st.booleans()))
    ends = st.one_of(st.none(), st.integers(1, rungs + 1))
    course = st.builds(
        Course, st.tuples(*[LOSSES] * rungs), LOSSES, lost_before=ends, ends_before=st.one_of(st.none(), ends)
    )
    return rules, draw(st.lists(course, min_size=1, max_size=12))


def run(rules: Rules, courses: list[Course], order: st.DataObject | None) -> tuple[dict[int, int], int | None]:
    """Run the race to its end, one member a step further at a time, in an order of the data's choosing."""
    reached = [0] * len(courses)
    while True:
        decision = decide(rules, [course.standing(at) for course, at in zip(courses, reached, strict=True)])
        if decision.over:
            return dict(decision.pruned), decision.best
        movable = [
            member
            for member in range(len(courses))
            if member not in decision.pruned and member not in decision.waiting and reached[member] < decision.rung
        ]
        assert movable, "a race that is not over has somebody who can go on"
        chosen = order.draw(st.sampled_from(movable)) if order else movable[0]
        reached[chosen] += 1


@given(races(), st.data())
def test_decisions_do_not_depend_on_the_order_in_which_members_come(
    race: tuple[Rules, list[Course]], data: st.DataObject
) -> None:
    assert run(*race, order=data) == run(*race, order=None)


@given(races())
def test_after_each_rung_the_share_of_those_that_entered_goes_on_and_never_nobody(
    race: tuple[Rules, list[Course]],
) -> None:
    rules, courses = race
    pruned, best = run(rules, courses, None)
    entered = len(courses)
    for rung in range(1, rules.rungs + 1):
        ended = sum(at == rung for at in pruned.values())
        assert entered - ended == kept_members(entered, rules.kept_ratio) >= 1
        entered -= ended
    assert best is None or best not in pruned


@given(races())
def test_who_goes_on_is_no_worse_than_who_is_ended_and_ties_go_to_the_earlier(
    race: tuple[Rules, list[Course]],
) -> None:
    rules, courses = race
    pruned, _ = run(rules, courses, None)
    standings = [course.standing(rules.rungs + 1) for course in courses]

    def worth(member: int, rung: int) -> tuple[bool, float, int]:
        score = standings[member].score(rung)
        if score is None or not math.isfinite(score):
            return True, 0.0, member
        return False, score if rules.lower_is_better else -score, member

    for rung in range(1, rules.rungs + 1):
        kept = [worth(member, rung) for member in range(len(courses)) if pruned.get(member, rung + 1) > rung]
        gone = [worth(member, rung) for member, at in pruned.items() if at == rung]
        assert not gone or max(kept) < min(gone)


@given(races())
def test_the_best_of_those_that_came_to_the_end_wins_and_without_rungs_the_best_of_all(
    race: tuple[Rules, list[Course]],
) -> None:
    rules, courses = race
    pruned, best = run(rules, courses, None)
    # Nobody goes on behind its end, where it might be cancelled.
    standings = [course.standing(course.ends_before or rules.rungs + 1) for course in courses]
    finals = {
        member: standing.result
        for member, standing in enumerate(standings)
        if member not in pruned and standing.result is not None and math.isfinite(standing.result)
    }
    if best is None:
        assert not finals
    else:
        extreme = min if rules.lower_is_better else max
        assert finals[best] == extreme(finals.values())
        assert best == min(member for member, value in finals.items() if value == finals[best])
        assert ranking(rules, standings)[0] == best


@given(races())
def test_what_was_decided_stays_decided_when_more_becomes_known(race: tuple[Rules, list[Course]]) -> None:
    rules, courses = race
    before: dict[int, int] = {}
    reached = [0] * len(courses)
    for rung in range(1, rules.rungs + 2):
        reached = [rung if member not in before else at for member, at in enumerate(reached)]
        standings = [course.standing(at) for course, at in zip(courses, reached, strict=True)]
        # Whoever waits may be cancelled by somebody, which ends it and takes nothing back.
        standings = [
            Standing(found.scores, found.trained, found.final, lost=True) if member % 3 == 0 else found
            for member, found in enumerate(standings)
        ]
        now = decide(rules, standings).pruned
        assert before.items() <= now.items()
        before = dict(now)


@given(races())
def test_the_table_names_every_member_once_and_those_that_went_further_first(race: tuple[Rules, list[Course]]) -> None:
    rules, courses = race
    pruned, _ = run(rules, courses, None)
    placed = ranking(rules, [course.standing(pruned.get(member, 9)) for member, course in enumerate(courses)])
    assert sorted(placed) == list(range(len(courses)))
    stages = [pruned.get(member, rules.rungs + 1) for member in placed]
    assert stages == sorted(stages, reverse=True)


@pytest.mark.parametrize(
    ("count", "ratio", "kept"),
    [(8, 0.5, 4), (7, 0.5, 4), (9, 1 / 3, 3), (9, 0.33333334, 3), (3, 0.1, 1), (1, 0.5, 1), (10, 0.25, 3)],
)
def test_the_share_is_rounded_up(count: int, ratio: float, kept: int) -> None:
    assert kept_members(count, ratio) == kept


def test_a_member_that_diverged_counts_as_the_worst_and_none_waits_for_it() -> None:
    rules = Rules(1, 0.5, lower_is_better=True)
    members = [Standing(lost=True), Standing({1: 9.0}), Standing({1: math.nan}), Standing({1: 8.0})]
    assert decide(rules, members).pruned == {0: 1, 2: 1}


def test_a_member_that_was_cancelled_with_its_result_is_not_the_best() -> None:
    members = [Standing(trained=True, final=1.0, lost=True), Standing(trained=True, final=2.0)]
    assert decide(Rules(0, 0.5, lower_is_better=True), members).best == 1


def test_of_members_of_which_none_came_to_an_end_none_is_the_best() -> None:
    decision = decide(Rules(1, 0.5, lower_is_better=True), [Standing(lost=True)] * 3)
    assert (decision.over, decision.best) == (True, None)
