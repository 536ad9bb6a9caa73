"""What the gateway's bench compares is the same work on both sides."""

from tests.load.gateway.rag_stages import compared


def test_the_engines_stages_are_one_row_because_one_side_cannot_tell_them_apart() -> None:
    assert compared({"embed": 3.0, "prefill": 2.0, "generate": 5.0}) == {"embed": 3.0, "engine": 7.0}
    assert compared({"embed": 3.0, "generate": 7.0}) == {"embed": 3.0, "engine": 7.0}
    assert compared({"embed": 3.0}) == {"embed": 3.0}
