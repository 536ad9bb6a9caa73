"""What `python -m tests.load.gateway` tells: its keys, which whoever compares runs goes by, from made-up numbers."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from tests.load.gateway import batch, chat, edge, isolation, open_loop, open_streams, rag
from tests.load.gateway.holding import Held
from tests.load.gateway.isolation import Answers
from tests.load.gateway.loading import Loaded
from tests.load.gateway.open_streams import Window
from tests.load.gateway.parts import Stretch
from tests.load.gateway.streams import Streamed

LOADED = Loaded(
    begun=100,
    served=80,
    good=76,
    shed=12,
    hinted=11,
    late=7,
    broken=1,
    dropped=0,
    seconds=10.0,
    served_ms={"min": 1.0, "med": 10.0, "p(90)": 20.0, "p(99)": 30.0, "max": 40.0},
    shed_ms={"min": 1.0, "med": 2.0, "p(90)": 3.0, "p(99)": 4.0, "max": 5.0},
    first_byte_ms={},
)
STREAMED = [Streamed(100.0, (10.0, 10.0))]


def loads(**over: Loaded) -> open_loop.Loads:
    """The same load at every share through both doors, but for those at 200 % that are given by their door."""
    return {door: {50: LOADED, 100: LOADED, 200: over.get(door, LOADED)} for door in ("http", "grpc")}


def of_open_loop(**over: Loaded) -> Mapping[str, Any]:
    return open_loop.told(loads(**over), seconds=10.0)


def of_chat() -> Mapping[str, Any]:
    sides = {"suite": [12.0, 14.0], "vllm": [10.0, 11.0]}
    told: dict[str, Any] = {}
    for of in ("", "adapter_"):
        told |= chat.told_throughput(of, [0.9, 0.8], [100.0, 90.0]) | chat.told_first_tokens(of, sides, sides)
    return told


PARTS = {
    "edge": edge.told(
        {name: [Stretch(100, 2.0, 1.0)] for name in ("http", "http_floor", "http_hop", "grpc", "grpc_floor")}
    ),
    "isolation": isolation.told(Answers([0.1]), Answers([0.15]), Answers([0.1], [0.002, 0.005])),
    "streams": open_streams.told(2, 1 << 20, [Window(2.0, 100, 40, 1.0, 2 << 20)]),
    "chat": of_chat(),
    "rag": rag.told([0.9, 0.8], {side: {"embed": [3.0], "engine": [50.0]} for side in ("suite", "pipeline")}),
    "open_loop": of_open_loop(),
    "batch": batch.told(STREAMED, STREAMED),
}
KEYS = {
    "edge": ["edge_rps", "edge_ratio", "edge_ratio_http", "edge_ratio_grpc", "edge_ratio_http_hop"],
    "isolation": ["tenant_isolation", "quiet_shed", "loud_shed_p99_ms", "loud_shed_without_hint"],
    "streams": ["edge_tokens_per_s", "edge_streams", "edge_resident_mib"],
    "chat": [
        f"{of}{name}"
        for of in ("", "adapter_")
        for name in ("throughput_ratio", "ttft_overhead_ms", "token_gap_overhead_ms", "token_gap_p99_overhead_ms")
    ],
    "rag": ["rag_ratio", "rag_stages_ms"],
    "open_loop": [
        "open_loop",
        "shed_without_hint",
        *(f"{of}{name}" for of in ("", "grpc_") for name in ("goodput_ratio", "shed_p99_ms", "hung", "broken")),
    ],
    "batch": ["batch_ttft_p99_ratio", "batch_gap_p99_ratio"],
}


@pytest.mark.parametrize("part", KEYS)
def test_the_figures_have_the_keys_that_they_are_known_by(part: str) -> None:
    assert set(KEYS[part]) <= PARTS[part].keys()


def test_no_part_overwrites_a_figure_of_another() -> None:
    # All of them stand in one line.
    for (one, first), (other, second) in combinations(PARTS.items(), 2):
        assert not first.keys() & second.keys(), (one, other)


def test_every_load_of_the_open_loop_is_told_by_door_and_share() -> None:
    told = of_open_loop()["open_loop"]
    shares = ["50", "100", "200"]
    assert {door: list(by_share) for door, by_share in told.items()} == {"http": shares, "grpc": shares}
    fates = {"served": 80, "shed": 12, "late": 7, "broken": 1, "hung": 0, "never_sent": 0}
    times = {"served_p50_ms": 10.0, "served_p99_ms": 30.0, "shed_p50_ms": 2.0, "shed_p99_ms": 4.0}
    assert (fates | times | {"goodput_per_second": 7.6}).items() <= told["grpc"]["200"].items()


def test_goodput_is_of_answers_in_time_at_twice_the_capacity_over_those_at_the_capacity() -> None:
    told = of_open_loop(http=replace(LOADED, good=38))
    assert (told["goodput_ratio"], told["grpc_goodput_ratio"]) == (0.5, 1.0)
    assert (told["shed_p99_ms"], told["shed_without_hint"]) == (4.0, 1)


@pytest.mark.parametrize("door", ["http", "grpc"])
def test_a_request_that_was_begun_and_that_nothing_became_of_hangs(door: str) -> None:
    prefix = {"http": "", "grpc": "grpc_"}[door]
    told = of_open_loop(**{door: replace(LOADED, begun=103)})
    assert {key: told[key] for key in ("hung", "grpc_hung")} == {"hung": 0, "grpc_hung": 0} | {f"{prefix}hung": 3}
    assert told["open_loop"][door]["200"]["hung"] == 3
    # Those that ended in their own way are no part of it.
    assert told[f"{prefix}broken"] == 3


def test_a_call_that_the_suite_does_not_let_go_of_hangs_even_where_its_caller_counts_it_as_late() -> None:
    still = iter([4, 2, 2, 2])
    told = of_open_loop(grpc=Held(lambda: next(still, 2), seconds=0.1).after(LOADED))
    assert (told["hung"], told["grpc_hung"]) == (0, 2)


def test_a_call_that_has_no_end_and_is_held_is_one() -> None:
    assert replace(LOADED, begun=102, held=2).hung == 2


def test_what_the_suite_lets_go_of_in_time_does_not_hang_and_what_stayed_of_one_load_is_not_the_next_ones() -> None:
    still = iter([3, 0])
    assert Held(lambda: next(still), seconds=30).after(LOADED).hung == 0
    stays = Held(lambda: 2, seconds=0.0)
    assert [stays.after(LOADED).hung for _ in range(3)] == [2, 0, 0]
