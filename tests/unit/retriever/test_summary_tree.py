"""The shape of a summary tree follows from its leaves alone, and a change stays where it was made."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.retriever.summaries.tree import MOST_CHILDREN, levels


def leaf(number):
    return hashlib.sha256(str(number).encode()).digest()


def tree(numbers, most=MOST_CHILDREN):
    return levels([leaf(it) for it in numbers], most)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.integers(0, 10_000), max_size=300), st.integers(3, 20))
def test_every_leaf_is_under_one_root_and_no_node_is_too_wide(numbers, most):
    leaves = [leaf(it) for it in sorted(numbers)]
    made = levels(leaves, most)
    assert bool(made) is bool(leaves)
    below = leaves
    for number, level in enumerate(made, start=1):
        assert [child for node in level for child in node.children] == below
        assert all(1 <= len(node.children) <= most for node in level)
        assert [node.level for node in level] == [number] * len(level)
        assert [node.first for node in level[1:]] == [node.last for node in level[:-1]]
        assert (level[0].first, level[-1].last) == (0, len(leaves))
        below = [node.digest for node in level]
    assert len(below) == bool(leaves)


def changed(before, after):
    """By level: its nodes, which of them are new, and the places where children came or went."""
    old_nodes = {node.digest for level in before for node in level}
    for at, level in enumerate(after):
        old = [child for node in before[at] for child in node.children] if at < len(before) else []
        children = [child for node in level for child in node.children]
        new = {node.digest for node in level} - old_nodes
        yield level, new, places(old, children)


def places(old, new):
    """Boundaries between two children of ``new`` at which something is other than it was."""
    followed = dict(zip([None, *old], [*old, None], strict=True))
    edges = zip([None, *new], [*new, None], strict=True)
    return [at for at, (left, right) in enumerate(edges) if followed.get(left, left) != right]


def is_near(node, level, moved):
    """Whether something moved no further from the node's children than a node is wide."""
    first = sum(len(it.children) for it in level[: level.index(node)])
    last = first + len(node.children)
    return any(first - MOST_CHILDREN <= at <= last + MOST_CHILDREN for at in moved)


EDITS = st.lists(st.tuples(st.sampled_from(["add", "delete", "replace"]), st.integers(0, 10**9)), max_size=25)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), EDITS)
def test_a_history_gives_the_tree_of_a_fresh_build_and_computes_only_nodes_above_changes(size, edits):
    drawn = random.Random(size)
    held = sorted(drawn.sample(range(10**6), size))
    for kind, number in edits:
        before = tree(held)
        if held and kind != "add":
            held.pop(number % len(held))
        if kind != "delete":
            held = sorted({*held, number % 10**6})
        after = tree(held)
        for level, new, moved in changed(before, after):
            assert all(node.digest not in new or is_near(node, level, moved) for node in level)
        assert after == tree(sorted(set(held)))


def test_one_leaf_more_or_less_costs_a_few_nodes_of_thousands():
    held = list(range(0, 10_000, 2))
    before = {node.digest for level in tree(held) for node in level}
    depth = len(tree(held))
    costs = []
    for number in random.Random(3).sample(range(10_000), 30):
        now = sorted({*held} ^ {number})
        costs.append(sum(node.digest not in before for level in tree(now) for node in level))
    assert max(costs) <= 3 * depth
    assert sum(costs) / len(costs) <= 1.6 * depth
    assert len(before) < len(held) / 6


def test_what_is_alike_from_some_place_on_is_cut_alike():
    first, second = tree(range(500)), tree(range(250, 500))
    shared = {node.digest for node in first[0]} & {node.digest for node in second[0]}
    assert len(shared) >= len(second[0]) - 1


def test_a_bound_with_which_a_tree_might_not_end_is_refused():
    with pytest.raises(ValueError, match="at most 3"):
        levels([leaf(1)], 2)
