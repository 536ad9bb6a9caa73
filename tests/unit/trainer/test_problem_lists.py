"""Lists of a dataset's problems, read by pages: a place in one is no place in the one that takes its place."""

from pathlib import Path

import pytest

from services.chassis.errors import Failure, Reason
from services.trainer.data.problem_lists import ProblemLists
from services.trainer.data.rows import Problem


def listed(lists: ProblemLists, *messages: str) -> None:
    with lists.writing("acme", "sha256:a") as written:
        written.take([Problem(line, "text", message) for line, message in enumerate(messages, start=1)])


@pytest.mark.parametrize("others", [("x" * 100, "y"), ("a", "b", "c")], ids=["other problems", "the same again"])
def test_a_place_in_a_list_that_was_replaced_is_refused(tmp_path: Path, others: tuple[str, ...]) -> None:
    lists = ProblemLists(tmp_path)
    listed(lists, "a", "b", "c")
    first, place = lists.page("acme", "sha256:a", 1, "")
    rest, end = lists.page("acme", "sha256:a", 9, place)
    assert ([problem.message for problem in (*first, *rest)], end) == (["a", "b", "c"], "")
    listed(lists, *others)
    mark = lists.page("acme", "sha256:a", 1, "")[1].rpartition(".")[0]
    for strange in (place, "nonsense", f"{mark}.1", f"{mark}.-9", f"{mark}.{2**70}", f"{mark}.x"):
        with pytest.raises(Failure) as failure:
            lists.page("acme", "sha256:a", 1, strange)
        assert failure.value.reason is Reason.PAGE_TOKEN_INVALID
