"""What the choice by meaning does with vectors: it ranks, abstains, says what is close, and is the same each time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auto.method import fit

DIMENSIONS = 24


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _world(seed, owners=4, each=12, noise=0.35):
    """Examples around a direction of each owner's, with much that differs inside all of them; and questions of none."""
    random = np.random.default_rng(seed)
    directions = _unit(random.standard_normal((owners, DIMENSIONS)))
    wording = random.standard_normal(DIMENSIONS)

    def draw(owner, count):
        spread = noise * random.standard_normal((count, DIMENSIONS)) / np.sqrt(DIMENSIONS)
        return _unit(directions[owner] + spread + random.standard_normal((count, 1)) * wording * 0.2)

    examples = np.concatenate([draw(owner, each) for owner in range(owners)])
    outside = _unit(random.standard_normal((60, DIMENSIONS)))
    return examples, [owner for owner in range(owners) for _ in range(each)], outside, draw, random


def test_a_question_goes_to_the_owner_of_examples_like_it_and_one_like_none_to_nobody():
    examples, owners, outside, draw, random = _world(3)
    fitted = fit(examples, owners, outside)
    for owner in range(4):
        decisions = [fitted.decide(vector) for vector in draw(owner, 25)]
        assert sum(decision.ranked[0][0] == owner for decision in decisions) >= 24
        assert sum(decision.confidence >= decision.threshold for decision in decisions) >= 23
    others = [fitted.decide(vector) for vector in _unit(random.standard_normal((100, DIMENSIONS)))]
    assert sum(decision.confidence >= decision.threshold for decision in others) <= 10
    assert fitted.calibrated


def test_two_owners_of_the_same_are_told_to_be_close_and_two_that_differ_are_not():
    examples, owners, outside, draw, _ = _world(5, owners=2, each=20)
    twins = fit(np.concatenate([examples[:20], draw(0, 20)]), [0] * 20 + [1] * 20, outside)
    apart = fit(examples, owners, outside)
    assert any(twins.decide(vector).ambiguous for vector in draw(0, 20))
    assert not any(apart.decide(vector).ambiguous for vector in draw(0, 20))


@given(seed=st.integers(0, 10_000), owners=st.integers(1, 3), each=st.integers(2, 4), noise=st.floats(0.5, 4.0))
@settings(max_examples=150, deadline=None)
def test_of_few_and_unlike_examples_too_what_is_nearer_is_not_less_meant(seed, owners, each, noise):
    examples, owned, outside, _, _ = _world(seed, owners, each, noise)
    coefficients = fit(examples, owned, outside).coefficients
    assert min(coefficients[1:]) >= 0.0 < max(coefficients[1:])


def test_one_example_an_owner_is_ranked_by_and_says_that_nothing_was_calibrated():
    examples, _, outside, _, _ = _world(7, owners=3, each=1)
    fitted = fit(examples, [0, 1, 2], outside)
    assert not fitted.calibrated
    decision = fitted.decide(examples[1])
    assert decision.ranked[0][0] == 1
    assert decision.confidence >= decision.threshold
    assert fitted.decide(-examples[1]).confidence < decision.threshold


def test_one_owner_alone_is_told_from_everything_else():
    examples, owners, outside, draw, random = _world(11, owners=1, each=10)
    fitted = fit(examples, owners, outside)
    assert all(fitted.decide(vector).confidence >= fitted.threshold for vector in draw(0, 10))
    others = [fitted.decide(vector) for vector in _unit(random.standard_normal((50, DIMENSIONS)))]
    assert sum(decision.confidence >= decision.threshold for decision in others) <= 5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), owners=st.integers(1, 5), each=st.integers(1, 7))
def test_any_examples_give_the_same_finite_choice_each_time(seed, owners, each):
    examples, owned, outside, draw, _ = _world(seed, owners, each)
    one, two = (fit(examples, owned, outside).decide(draw_) for draw_ in [draw(0, 1)[0]] * 2)
    assert one == two
    assert 0 <= one.confidence <= 1
    assert np.isfinite([score for _, score in one.ranked]).all()
    scores = [score for _, score in one.ranked]
    assert scores == sorted(scores, reverse=True)
    assert {owner for owner, _ in one.ranked} == set(range(owners))


def test_equal_examples_of_one_owner_are_no_trouble():
    _, _, outside, _, _ = _world(2)
    same = np.tile(outside[:1], (6, 1))
    fitted = fit(same, [0] * 6, outside[1:])
    assert fitted.decide(same[0]).confidence == pytest.approx(fitted.decide(same[1]).confidence)


def test_where_the_two_sides_overlap_the_base_is_given_fewer_of_the_models_questions_than_the_models_are_of_its_own():
    examples, owners, _, draw, random = _world(15, noise=0.8, each=40)
    spread = random.standard_normal((80, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    near = _unit(0.75 * examples[::2] + 0.5 * spread)
    outside = _unit(near + 0.9 * _unit(random.standard_normal((80, DIMENSIONS))))
    fitted = fit(examples, owners, outside)
    meant = np.concatenate([draw(owner, 100) for owner in range(4)])
    left = np.mean([fitted.decide(vector).confidence < fitted.threshold for vector in meant])
    taken = np.mean([fitted.decide(vector).confidence >= fitted.threshold for vector in outside])
    assert 0 < left < taken / 2 < 0.25
