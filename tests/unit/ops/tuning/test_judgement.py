"""When what was trained counts as better."""

import math
from functools import partial

import numpy as np

from services.ops.tuning import judgement
from services.ops.tuning.judgement import Judged
from services.ops.tuning.mining import Found
from services.ops.tuning.passages import Library, Passage
from services.ops.tuning.questions import Question

LIBRARY = Library(
    "c", tuple(Passage(f"{name}.md", f"{name}{at}", f"{name} {at}") for name in "abc" for at in (1, 2)), 0
)


def vectors_of(texts):
    """Each letter in a direction of its own, the number a little aside."""
    rows = np.zeros((len(texts), 4), dtype=np.float32)
    for row, text in zip(rows, texts, strict=True):
        row["abc".index(text[0])] = 1.0
        row[3] = 0.1 * int(text[-1])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def saying(said, question, passages):
    return said


def test_a_document_stands_where_its_best_passage_does():
    questions = [Question("a 1", frozenset({"a.md"})), Question("b 2", frozenset({"c.md"}))]
    judged = judgement.of_vectors("v", vectors_of, LIBRARY, questions)
    assert judged.ndcg[0] == judged.reciprocal_ranks[0] == 1.0
    # b first, then a and c, whose passages with a 2 are as near: by their order in the collection.
    assert judged.ndcg[1] == 1 / math.log2(4)
    assert judged.reciprocal_ranks[1] == 1 / 3


def test_a_reranker_counts_beside_the_search_that_it_follows():
    passages = LIBRARY.passages[::2]
    found = [Found(Question("?", frozenset({"c.md"})), passages, (0.9, 0.8, 0.1))]
    assert judgement.of_search("search", found).reciprocal_ranks == (1 / 3,)
    # (0, 1) of the search, (0, 1) of the reranker: c is last in one and first in the other.
    for said, place in (([0.0, 0.0, 1.0], 2), ([0.0, 0.5, 0.5], 3), ([0.0, 0.0, 0.0], 3)):
        judged = judgement.of_scores("r", partial(saying, said), found)
        assert judged.reciprocal_ranks == (1 / place,)


def test_a_search_that_finds_nothing_answers_nothing():
    found = [Found(Question("?", frozenset({"c.md"})), (), ())]
    assert judgement.of_scores("r", lambda *_: [], found).ndcg == (0.0,)


def test_better_is_what_chance_does_not_explain():
    weak = Judged("weak", (0.1,) * 30, (0.1,) * 30)
    fair = Judged("fair", (0.4,) * 30, (0.4,) * 30)
    surely = judgement.compared([weak, fair], Judged("trained", (0.6,) * 30, (0.6,) * 30))
    assert surely.before is fair
    assert surely.better
    luck = Judged("luck", (0.4,) * 28 + (1.0, 0.3), (0.4,) * 30)
    assert judgement.compared([fair], luck).gain > 0
    assert not judgement.compared([fair], luck).better
    assert not judgement.compared([fair], fair).better
