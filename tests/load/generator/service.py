"""What hot swapping costs at the service: the first token of a cold adapter, and the gaps of those who run meanwhile.

The generator serves as in production: access and registry beside it, every call over gRPC, adapters of random weights,
verified files on disk.  Four slots.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trivium.generator.v1 import generator_pb2

from services.chassis.models import DEFAULT_BASE, resolve
from tests.generating import QUESTIONS, Caller, Served, Tenant, tenant_of
from tests.load.generator import adapters
from tests.load.generator.adapters import Recipe
from tests.load.percentile import percentile

_ADAPTERS = 6
_RANK = 16
_COLD = 30
_RUNNING = 4
_GAP_SECONDS = 40.0
_SWAP_SECONDS = 1.0
_STREAM_TOKENS = 400


@dataclass(frozen=True, slots=True)
class Swapping:
    """Milliseconds of first tokens, and the gaps between tokens of running streams with and without swaps."""

    cold_milliseconds: float
    warm_milliseconds: float
    cold_requests: int
    still_gap_milliseconds: float
    swap_gap_milliseconds: float
    swaps: int
    errors: int

    @property
    def cold_adapter_overhead_ms(self) -> float:
        """What a first token waits longer where the adapter has to be put into a slot first."""
        return self.cold_milliseconds - self.warm_milliseconds

    @property
    def swap_gap_ratio(self) -> float:
        """The 99th percentile of the gaps while adapters are swapped, over that while none is."""
        return self.swap_gap_milliseconds / self.still_gap_milliseconds


def measured() -> Swapping:
    """Run both measurements on one generator."""
    with tempfile.TemporaryDirectory(prefix="trivium-bench-") as folder:
        # Cold means on disk: nothing that leaves its slot stays in host memory.
        served = Served(Path(folder) / "served", {"TRIVIUM_GENERATOR_ADAPTER_MEMORY_GIB": "0"}).start()
        try:
            tenant = tenant_of(served)
            versions = list(_published(tenant, Path(folder) / "adapters"))
            cold, warm = _first_tokens(tenant.generator, versions)
            with _streams(tenant.generator, versions[:2]) as (still, errors):
                time.sleep(_GAP_SECONDS)  # They are measured for as long, undisturbed.
            with _streams(tenant.generator, versions[:2]) as (swapped, more_errors):
                swaps, swap_errors = _swap(tenant.generator, versions[2:])
            return Swapping(
                cold_milliseconds=1e3 * statistics.median(cold),
                warm_milliseconds=1e3 * statistics.median(warm),
                cold_requests=len(cold),
                still_gap_milliseconds=1e3 * percentile(still, 0.99),
                swap_gap_milliseconds=1e3 * percentile(swapped, 0.99),
                swaps=swaps,
                errors=len(errors) + len(more_errors) + swap_errors,
            )
        finally:
            served.close()


def _published(tenant: Tenant, folder: Path) -> Iterator[str]:
    base = resolve(DEFAULT_BASE)
    for number in range(_ADAPTERS):
        written = adapters.write(base.path, folder / str(number), Recipe(_RANK, seed=number))
        files = adapters.files(written)
        yield str(tenant.registry.publish(f"bench-{number}", files, base_digest=base.digest).version)


def _first_tokens(generator: Caller, versions: Sequence[str]) -> tuple[list[float], list[float]]:
    """Seconds to first tokens, cold and warm: asked for twice each, six versions in turn need each other's four slots.

    Which of the two a request was, its own stages say.
    """
    for version in versions:
        generator.answer(QUESTIONS[0], version, max_tokens=1)  # Fetched and verified, that is, on disk.
    cold: list[float] = []
    warm: list[float] = []
    for version in itertools.islice(itertools.cycle(versions), _COLD):
        for _ in range(2):
            seconds, moved = _first_token(generator, version)
            (cold if moved else warm).append(seconds)
    return cold, warm


def _first_token(generator: Caller, version: str) -> tuple[float, bool]:
    """Seconds to the first token, and whether the adapter had to come into a slot for it."""
    begun = time.perf_counter()
    call = generator.start(QUESTIONS[0], version, max_tokens=1)
    next(call)
    took = time.perf_counter() - begun
    # The last message alone has timings.
    stages = {timing.stage for response in call for timing in response.final.timings}
    return took, "load_slot" in stages


@contextmanager
def _streams(generator: Caller, versions: Sequence[str]) -> Iterator[tuple[list[float], list[Exception]]]:
    """Keep streams running for as long as the block lasts, half on the base; yields the gaps between their tokens."""
    gaps: list[float] = []
    errors: list[Exception] = []
    over = threading.Event()

    def read(version: str, question: str) -> None:
        try:
            while not over.is_set():
                sampling = {"ignore_eos": True}
                call = generator.start(question, version, max_tokens=_STREAM_TOKENS, sampling=sampling)
                last = 0.0
                for response in call:
                    now = time.perf_counter()
                    if last and response.WhichOneof("part") == "delta":
                        gaps.append(now - last)
                    last = now
                    if over.is_set():
                        call.cancel()
                        break
        except Exception as error:  # noqa: BLE001 - whatever ended a stream is what is counted
            errors.append(error)

    worn = itertools.cycle(["", *versions])
    threads = [threading.Thread(target=read, args=(next(worn), QUESTIONS[number])) for number in range(_RUNNING)]
    for thread in threads:
        thread.start()
    try:
        yield gaps, errors
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _swap(generator: Caller, versions: Sequence[str]) -> tuple[int, int]:
    """Load, ask and remove one version a second; how many were swapped, and how many of them went wrong."""
    begun, errors = time.monotonic(), 0
    for number, version in enumerate(itertools.cycle(versions)):
        due = begun + number * _SWAP_SECONDS
        if due > begun + _GAP_SECONDS:
            return number, errors
        time.sleep(max(0.0, due - time.monotonic()))  # The load is one swap a second, however long one takes.
        try:
            generator.api.LoadAdapter(generator_pb2.LoadAdapterRequest(version=version))
            generator.answer(QUESTIONS[-1], version, max_tokens=2)
            generator.api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=version))
        except Exception:  # noqa: BLE001 - whatever goes wrong is what is counted
            errors += 1
    raise AssertionError("a cycle does not end")
