"""What the gateway's bench compares is the same work on both sides."""

import pytest

from tests.load.gateway.batch import told
from tests.load.gateway.open_loop import whole_rates
from tests.load.gateway.rag_stages import compared
from tests.load.gateway.streams import Streamed


def test_the_engines_stages_are_one_row_because_one_side_cannot_tell_them_apart() -> None:
    assert compared({"embed": 3.0, "prefill": 2.0, "generate": 5.0}) == {"embed": 3.0, "engine": 7.0}
    assert compared({"embed": 3.0, "generate": 7.0}) == {"embed": 3.0, "engine": 7.0}
    assert compared({"embed": 3.0}) == {"embed": 3.0}


@pytest.mark.parametrize("capacity", [10.0, 10.4, 21.7, 64.3])
def test_whole_rates_stand_for_their_shares(capacity: float) -> None:
    for share, rate in whole_rates(capacity).items():
        assert rate == pytest.approx(capacity * share / 100, rel=0.05)


@pytest.mark.parametrize("capacity", [0.0, 0.0001, 0.4, 1.7, 3.0, 10.9])
def test_a_rate_that_would_be_another_share_is_not_reported_and_what_to_do_is_told(capacity: float) -> None:
    with pytest.raises(ValueError, match=r"50 %.* tokens"):
        whole_rates(capacity)


def test_what_a_batch_costs_a_live_tenant_is_told_of_first_tokens_and_of_gaps() -> None:
    alone = [Streamed(100.0, (10.0, 10.0)) for _ in range(100)]
    beside = [Streamed(120.0, (10.0, 15.0)) for _ in range(98)] + [Streamed(300.0, (10.0, 40.0))] * 2
    found = told(alone, beside)
    assert (found["batch_ttft_p50_ratio"], found["batch_ttft_p99_ratio"]) == (1.2, 3.0)
    assert (found["batch_gap_p50_ratio"], found["batch_gap_p99_ratio"]) == (1.0, 1.5)
    assert found["batch_ttft_p99_ms"] == {"alone": 100.0, "beside": 300.0}
