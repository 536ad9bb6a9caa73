"""How fast the registry takes adapters and tells of moves, and that no acknowledged move is lost.

``python -m tests.load.registry`` starts access and the registry over SQLite with a folder, then over
PostgreSQL with a bucket on a real S3 server and two replicas, which the clients share.  Clients are
threads of this process, so its own work is part of every figure.  The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import grpc

from services.chassis.status import from_rpc_error
from tests.adapters import Adapter
from tests.load.machine import hardware
from tests.load.percentile import percentile
from tests.load.registry.places import WORLDS, Site, open_site
from tests.stack import User
from tests.worlds import BUCKET

PUBLISHERS = 8
WRITERS = 16
Figures = dict[str, float | int]


class Watcher:
    """Reads a tenant's events as they come and notes when each did."""

    def __init__(self, user: User) -> None:
        self.events: list[tuple[float, Any]] = []
        self._stream = user.watch(timeout=3600)
        self._caught_up = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._caught_up.wait(60), "the watch did not begin"

    def _read(self) -> None:
        try:
            for message in self._stream:
                if message.HasField("event"):
                    self.events.append((time.perf_counter(), message.event))
                if message.caught_up:
                    self._caught_up.set()
        except grpc.RpcError:
            return

    def wait_for(self, count: int) -> None:
        """Until so many events have come."""
        deadline = time.monotonic() + 120
        while len(self.events) < count:
            assert time.monotonic() < deadline, f"{len(self.events)} of {count} events came"
            time.sleep(0.001)

    def close(self) -> None:
        """End the stream."""
        self._stream.cancel()
        self._thread.join(10)


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run ``work`` in so many threads; their results."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def adapters_per_second(site: Site, adapters: int, inputs: int) -> float:
    """Adapters from their first byte to the watch, with PUBLISHERS clients that publish one after the other."""
    tenant = site.tenant()
    watcher = Watcher(site.user(tenant, 1))
    users = [site.user(tenant, number) for number in range(PUBLISHERS)]
    # Each with a configuration of its own too: one tenant's two uploads of one content wait for each other.
    files = [
        Adapter(salt=float(number + 1), inputs=inputs, config={"revision": str(number)}).files()
        for number in range(adapters)
    ]

    def publish(number: int) -> None:
        for chosen in files[number::PUBLISHERS]:
            users[number].publish(f"m{number}", chosen)

    begun = time.perf_counter()
    together(PUBLISHERS, publish)
    watcher.wait_for(adapters)
    seconds = watcher.events[-1][0] - begun
    watcher.close()
    return adapters / seconds


def watch_latencies_ms(site: Site, moves: int, movers: int, watched: int) -> list[float]:
    """Milliseconds from the answer to an alias's move until the event at a watcher, by ``movers`` clients at once.

    The event can be there before the answer is: such a one counts as 0.
    """
    tenant = site.tenant()
    users = [site.user(tenant, 0) for _ in range(movers)]
    versions = [users[0].publish("m", Adapter(salt=salt).files()).version for salt in (1.0, 2.0)]
    watcher = Watcher(site.user(tenant, watched))
    before = len(watcher.events)

    def move(number: int) -> dict[str, float]:
        answered = {}
        for count in range(moves // movers):
            alias = users[number].point("m", versions[count % 2], alias=f"a{number}")
            answered[alias.etag] = time.perf_counter()
        return answered

    answered = {etag: at for part in together(movers, move) for etag, at in part.items()}
    watcher.wait_for(before + len(answered))
    watcher.close()
    heard = {event.alias.etag: at for at, event in watcher.events[before:]}
    return [max(0.0, heard[etag] - at) * 1000 for etag, at in answered.items()]


def lost(history: Sequence[str], made: Sequence[tuple[str, str]]) -> int:
    """How many swaps, as (etag before, etag after), a history of etags does not hold exactly once after the one before.

    What stands in the history and nobody was told of counts too; its first etag is where all began.
    """
    followed = set(pairwise(history))
    known = {history[0], *(after for _, after in made)}
    missing = sum(pair not in followed or history.count(pair[1]) != 1 for pair in made)
    return missing + sum(etag not in known for etag in history)


def lost_swaps(site: Site, swaps: int) -> tuple[int, int, float]:
    """Racing swaps of one alias: how many were lost, how many were acknowledged, and how many a second."""
    tenant = site.tenant()
    users = [site.user(tenant, number) for number in range(WRITERS)]
    versions = [users[0].publish("m", Adapter(salt=salt).files()).version for salt in (1.0, 2.0)]
    users[0].point("m", versions[0])

    def swap(number: int) -> list[tuple[str, str]]:
        made: list[tuple[str, str]] = []
        etag = users[number].alias("m").etag
        while len(made) < swaps // WRITERS:
            try:
                alias = users[number].point("m", versions[len(made) % 2], etag=etag)
                made.append((etag, alias.etag))
                etag = alias.etag
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                assert failure.reason == "ETAG_MISMATCH", failure
                etag = failure.variables["etag"]
        return made

    begun = time.perf_counter()
    made = [pair for part in together(WRITERS, swap) for pair in part]
    seconds = time.perf_counter() - begun
    history = [event.alias.etag for event in users[0].events_so_far() if event.alias.alias == "prod"]
    return lost(history, made), len(made), len(made) / seconds


def measure(world: str, options: argparse.Namespace) -> Figures:
    """All figures of one world, each said with what it means."""
    print(f"\n{world}", flush=True)
    figures: Figures = {}
    with open_site(world) as site:
        for name, inputs, count in (("small", 6, options.adapters), ("megabytes", 131_072, options.adapters // 4)):
            rate = adapters_per_second(site, count, inputs)
            figures[f"adapters_per_second_{name}"] = round(rate, 2)
            size = len(Adapter(inputs=inputs).files()["adapter_model.safetensors"])
            print(
                f"  {rate:7.2f} adapters of {size:,} bytes a second, by {PUBLISHERS} clients, from the first byte of "
                "the first to the last on the watch; each is inspected in a process of its own",
                flush=True,
            )
        watched = {"": 0, "_other_replica": 1} if world == BUCKET else {"": 0}
        for name, door in watched.items():
            for movers in (1, 4):
                latencies = watch_latencies_ms(site, options.moves, movers, door)
                middle, high = statistics.median(latencies), percentile(latencies, 0.99)
                suffix = f"{name}{'' if movers == 1 else f'_{movers}_writers'}"
                figures[f"watch_latency_p50_ms{suffix}"] = round(middle, 2)
                figures[f"watch_latency_p99_ms{suffix}"] = round(high, 2)
                where = "at the other replica" if door else "at the same replica"
                print(
                    f"  {middle:7.2f} ms p50, {high:.2f} ms p99 (target: at most 50) from the answer to a move until "
                    f"its event {where}, {len(latencies)} moves by {movers} at once",
                    flush=True,
                )
        missing, made, rate = lost_swaps(site, options.swaps)
        figures |= {"alias_cas_lost": missing, "alias_cas_made": made, "alias_cas_per_second": round(rate, 1)}
        print(
            f"  {missing:7} lost of {made} acknowledged swaps by {WRITERS} racing writers (target: 0): not exactly once in "
            f"the history after the one it was made on; {rate:.0f} acknowledged a second",
            flush=True,
        )
    return figures


def main() -> None:
    """Measure both worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=96)
    parser.add_argument("--moves", type=int, default=400)
    parser.add_argument("--swaps", type=int, default=480)
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), choices=WORLDS)
    options = parser.parse_args()
    found = {world: measure(world, options) for world in options.worlds}
    head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    print(
        json.dumps(
            {
                "adapters_per_second": min(one["adapters_per_second_small"] for one in found.values()),
                "watch_latency_ms": max(
                    value for one in found.values() for key, value in one.items() if key.startswith("watch_latency_p99")
                ),
                "alias_cas_lost": sum(one["alias_cas_lost"] for one in found.values()),
                "worlds": found,
                "hardware": hardware(),
                "load_average": round(os.getloadavg()[0], 2),
                "commit": head.stdout.strip(),
            }
        )
    )


if __name__ == "__main__":
    main()
