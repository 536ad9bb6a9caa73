"""Two thousand answers in mixed company, each by the weights that it names; and the same attack succeeds on stock vLLM.

Promise 4.  Long: `make soak` runs it.  `make bench NAME=marks` prints the same as a table.
"""

import asyncio

import pytest

from tests.load import marks

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


def test_none_of_two_thousand_answers_was_touched_by_other_weights() -> None:
    tallies = marks.ours(2000)
    assert sum(tally.answers for tally in tallies) == 2000
    assert [tally.wrong_marks for tally in tallies] == [0, 0]
    assert [tally.not_named for tally in tallies] == [0, 0]


def test_the_same_attack_finds_wrong_weights_in_stock_vllm() -> None:
    assert asyncio.run(marks.stock(200)).wrong_marks > 0
