"""What is learned together never calls right passages wrong."""

from hypothesis import given
from hypothesis import strategies as st

from services.ops.tuning.batches import planned
from services.ops.tuning.mining import Lesson


@st.composite
def several(draw):
    texts = st.sampled_from([f"passage {number}" for number in range(25)])
    made = []
    for number in range(draw(st.integers(1, 30))):
        right = draw(st.frozensets(texts, min_size=1, max_size=3))
        wrong = tuple(it for it in draw(st.lists(texts, min_size=1, max_size=3, unique=True)) if it not in right)
        made.append(Lesson(f"question {number}", draw(st.sampled_from(sorted(right))), wrong, right))
    return made


@given(several(), st.integers(2, 8), st.integers(0, 99))
def test_every_lesson_is_learned_once_an_epoch_and_beside_nothing_that_is_right_for_it(lessons, size, seed):
    plans = planned(lessons, size, seed, 3)
    assert plans == planned(lessons, size, seed, 3)
    assert len({len(plan) for plan in plans}) == 1
    for plan in plans:
        assert sorted(number for batch in plan for number in batch) == list(range(len(lessons)))
        for batch in plan:
            assert 1 <= len(batch) <= size
            for number in batch:
                others = {text for other in batch if other != number for text in lessons[other].passages}
                assert not others & lessons[number].right


def test_wrong_passages_that_lessons_share_keep_them_not_apart():
    lessons = [Lesson(f"q{at}", f"p{at}", ("the same",), frozenset({f"p{at}"})) for at in range(8)]
    assert [len(batch) for batch in planned(lessons, 4, 0, 1)[0]] == [4, 4]


def test_epochs_are_learned_in_other_orders():
    lessons = [Lesson(f"q{at}", f"p{at}", ("n",), frozenset({f"p{at}"})) for at in range(12)]
    first, second = planned(lessons, 4, 0, 2)
    assert first != second
