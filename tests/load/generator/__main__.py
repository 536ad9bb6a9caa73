"""What serving adapters costs, and what no storm, file or fault may bring about: ``python -m tests.load.generator``.

Sections can be named; all of them take half an hour on a quiet machine, and each ends with a line that says what its
numbers mean.  The last line of the output is JSON with every figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

from services.chassis.resources import Role, shares
from tests.load.generator import service, speed, to_serve, zipf
from tests.load.generator.corpus import bench as corpus
from tests.load.generator.storm import bench as storm
from tests.load.generator.storm.checks import Check
from tests.load.machine import hardware

Figures = dict[str, float | int | str]


def _speed(rounds: int) -> Figures:
    return dict(speed.figures(speed.RATIOS, rounds))


def _compiled(rounds: int) -> Figures:
    return dict(speed.figures(speed.COMPILING, rounds))


def _swaps(_: int) -> Figures:
    swapping = service.measured()
    print(
        f"first token, adapter on disk {swapping.cold_milliseconds:.0f} ms ({swapping.cold_requests} requests), in a slot "
        f"{swapping.warm_milliseconds:.0f} ms (target: at most 100 apart); p99 gap between tokens "
        f"{swapping.still_gap_milliseconds:.0f} ms, with {swapping.swaps} swaps {swapping.swap_gap_milliseconds:.0f} ms "
        f"(target: ratio under 2), errors "
        f"{swapping.errors} (target 0)"
    )
    return {
        "cold_adapter_overhead_ms": round(swapping.cold_adapter_overhead_ms, 1),
        "swap_gap_ratio": round(swapping.swap_gap_ratio, 3),
        "swap_errors": swapping.errors,
    }


def _storm(_: int) -> Figures:
    blown = storm.wrong_weights()
    print(storm.told(blown))
    print(f"wrong_weights {len(blown.findings.wrong)} of {blown.findings.answers} (target 0 of at least 2,000)")
    return {
        "wrong_weights": len(blown.findings.wrong),
        "storm_answers": blown.findings.answers,
        "storm_rescored_under_every_version": blown.findings.rescored_everywhere,
        "storm_engine_deaths": blown.findings.by_check[Check.DEATH],
        "storm_preemptions": blown.preemptions,
        "storm_swap_errors": len(blown.outcome.swap_failures),
    }


def _faults(_: int) -> Figures:
    caught, without = storm.planted_faults()
    found = sum(bool(each.by) for each in caught)
    print(storm.told(without))
    print(f"planted faults caught {found} of {len(caught)} (target: all of at least 20); false alarms without any: "
          f"{sum(without.findings.by_check.values())}")  # fmt: skip
    return {
        "planted_faults": len(caught),
        "planted_faults_caught": found,
        "planted_false_alarms": sum(without.findings.by_check.values()),
    }


def _corpus(_: int) -> Figures:
    specimens = corpus.whole_corpus()
    ways = [corpus.through_the_registry(specimens), corpus.past_the_registry(specimens)]
    for way in ways:
        print(corpus.told(way))
    deaths, wrong = sum(way.deaths for way in ways), sum(len(way.wrong) for way in ways)
    print(f"engine deaths {deaths} (target 0), wrongly served {wrong} (target 0), of {len(specimens)} hostile adapters")
    return {
        "engine_deaths": deaths,
        "hostile_adapters": len(specimens),
        "hostile_classes": len(ways[0].outcomes),
        "hostile_wrongly_served": wrong,
        "hostile_unreasoned": sum(len(way.unreasoned) for way in ways),
    }


def _to_serve(_: int) -> Figures:
    runs = to_serve.measured()
    print(to_serve.told(runs))
    return {
        "train_to_serve_seconds_p50": round(to_serve.seconds(runs, 0.5), 3),
        "train_to_serve_seconds_p99": round(to_serve.seconds(runs, 0.99), 3),
    }


def _zipf(_: int) -> Figures:
    law = zipf.measured()
    print(zipf.told(law))
    return {
        "zipf_throughput_ratio": round(law.throughput_ratio, 3),
        **{f"zipf_{tier}_hit_rate": round(rate, 3) for tier, rate in law.hit_rates().items()},
        "zipf_adapters_fetched": law.tiers.fetched,
        "zipf_starvation_ratio": round(law.starvation_ratio, 3),
        "adapters_registered_per_second": round(law.registered_per_second, 1),
    }


SECTIONS: dict[str, Callable[[int], Figures]] = {
    "speed": _speed,
    "swaps": _swaps,
    "storm": _storm,
    "faults": _faults,
    "corpus": _corpus,
    "to-serve": _to_serve,
    "zipf": _zipf,
}
# Run when they are named: an engine that compiles takes minutes to start.
APART: dict[str, Callable[[int], Figures]] = {"compiled": _compiled}
_CHOICE = f"of {', '.join(SECTIONS)}; all of them without any; and {', '.join(APART)}, which runs when it is named"


def main() -> None:
    """Run the sections, print what their numbers mean, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=_CHOICE)
    parser.add_argument("--rounds", type=int, default=3, help="of the speed ratios")
    asked = parser.parse_args()
    known = SECTIONS | APART
    if unknown := sorted(set(asked.sections) - set(known)):
        parser.error(f"there is no section {unknown[0]}")
    outcome: Figures = {}
    for name in asked.sections or SECTIONS:
        begun = time.monotonic()
        print(f"--- {name}", flush=True)
        outcome |= known[name](asked.rounds)
        print(f"--- {name}: {time.monotonic() - begun:.0f} s", flush=True)
    threads = shares()[Role.ENGINE].threads
    machine = {"hardware": hardware(), "engine_threads": threads}
    print(json.dumps({"benchmark": "generator", "rounds": asked.rounds, **machine, **outcome}))


if __name__ == "__main__":
    main()
