"""``wrong_weights`` and ``planted_faults_caught``: the storm over our own engine, and over one with planted faults."""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from trivium.generator.v1 import generator_pb2

from services.chassis.models import DEFAULT_BASE
from tests.generating import ENGINE_SECONDS, Served
from tests.load.generator.planted import Planting, plant
from tests.load.generator.planted.faults import FAULTS, Fault
from tests.load.generator.storm import cast, checks, traffic
from tests.load.generator.storm.cast import Cast
from tests.load.generator.storm.checks import Check, Findings, Sample
from tests.load.generator.storm.reference import Reference
from tests.load.generator.storm.small import small_base
from tests.stack import eventually

RESPONSES = 2000
SAMPLE = Sample(of_each=10_000, everywhere=120)
# A fault touches every answer of some version, if it touches any; or few of all, and then a storm is so many
# times longer and looked at whole.
FAULT_RESPONSES, FAULT_SAMPLE = 56, Sample(of_each=8, everywhere=12)
_LONGER, _LONGER_SAMPLE = 4, Sample(of_each=10_000, everywhere=12)
# Caches of two dozen blocks for as many requests of two or three: they preempt.
_CACHE_GIB, _SMALL_CACHE_GIB = "0.066", "0.003"
_FEW_SLOTS = {"TRIVIUM_GENERATOR_MAX_MODEL_LEN": "320", "TRIVIUM_GENERATOR_MAX_LORAS": "4"}


@dataclass(frozen=True)
class Stage:
    """A running generator with its cast, the reference, and the hand that plants faults."""

    cast: Cast
    reference: Reference
    planting: Planting

    def restarts(self) -> int:
        """How often an engine was rebuilt so far, once it answers again."""
        api = self.cast.tenants[0].generator.api

        def answers() -> list[int]:
            engines = api.ListEngines(generator_pb2.ListEnginesRequest()).engines
            ready = generator_pb2.ENGINE_STATE_READY
            return [engine.restarts + 1 for engine in engines if engine.state == ready]

        found: list[int] = eventually(answers, "the engine answers", ENGINE_SECONDS)
        return sum(found) - 1

    def refusals(self) -> int:
        """How many answers the generator has refused for what their attestation said, by its log."""
        return self.cast.served.generator.log().count("VERSION_MISMATCH: ")


@dataclass
class Storm:
    """A storm and what the checks found."""

    title: str
    outcome: traffic.Outcome
    findings: Findings
    preemptions: int = 0
    slots: Counter[int] = field(default_factory=Counter)


@contextmanager
def staged(module: str, *, small: bool = False) -> Iterator[Stage]:
    """Start a generator whose plugin is the planted package's ``module``, and publish the cast.

    ``small`` takes a random base on which a storm costs seconds, and no marked versions.
    """
    with tempfile.TemporaryDirectory(prefix="storm-") as name:
        folder = Path(name)
        planting, environment = plant(folder / "planted", module)
        cache = {"TRIVIUM_GENERATOR_KV_CACHE_GIB": _SMALL_CACHE_GIB if small else _CACHE_GIB}
        if small:
            # What a fault spoilt in host memory would outlive it there.
            cache["TRIVIUM_GENERATOR_ADAPTER_MEMORY_GIB"] = "0"
        base = f"file:{small_base(folder / 'base')}" if small else DEFAULT_BASE
        served = Served(folder / "served", _FEW_SLOTS | cache | environment, base=base)
        try:
            served.start()
            players = cast.assemble(served, folder / "adapters", **({"marks": 0} if small else {}))
            versions = {version.digest: version.folder for version in players.versions}
            yield Stage(players, Reference(served.base.path, versions), planting)
        finally:
            served.close()


def storm(stage: Stage, title: str, count: int, sample: Sample, seed: int) -> Storm:
    """Let it blow, then check every answer."""
    before, refused, restarts = stage.planting.preemptions(), stage.refusals(), stage.restarts()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"storm {title}", total=count)
        told = lambda done: progress.update(bar, completed=done)  # noqa: E731 - one line says it
        outcome = traffic.run(stage.cast, title, count, seed, told=told)
    preemptions = stage.planting.preemptions() - before
    findings = checks.plain_checks(stage.cast.versions, outcome)
    checks.tell_attestation(findings, stage.refusals() - refused)
    checks.rescore(stage.cast.versions, outcome, stage.reference, findings, sample)
    findings.by_check += Counter({Check.DEATH: stage.restarts() - restarts})
    slots = Counter(response.slot for response in outcome.responses if response.tokens)
    return Storm(title, outcome, findings, preemptions, slots=slots)


def wrong_weights(count: int = RESPONSES, sample: Sample = SAMPLE, seed: int = 1) -> Storm:
    """The storm over our own plugin, with nothing but a count of preemptions beside it."""
    with staged("witness") as stage:
        return storm(stage, "clean", count, sample, seed)


@dataclass(frozen=True)
class Caught:
    """A fault and what found it; nothing, when it passed."""

    fault: Fault
    by: dict[Check, int]
    preemptions: int


def planted_faults(faults: tuple[Fault, ...] = FAULTS, responses: int = FAULT_RESPONSES) -> tuple[list[Caught], Storm]:
    """A small storm for each fault, and one without any before and after; the latter's findings are false alarms."""
    found = []
    with staged("plugin", small=True) as stage:
        first = storm(stage, "before", responses, FAULT_SAMPLE, 2)
        for number, fault in enumerate(faults):
            _empty_slots(stage.cast)
            stage.planting.choose(fault.name)
            few = fault.touches_few
            count, sample = (_LONGER * responses, _LONGER_SAMPLE) if few else (responses, FAULT_SAMPLE)
            blown = storm(stage, fault.name, count, sample, 10 + number)
            by_check = {check: times for check, times in blown.findings.by_check.items() if times}
            if blown.outcome.swap_failures:
                by_check[Check.FAILURE] = by_check.get(Check.FAILURE, 0) + len(blown.outcome.swap_failures)
            found.append(Caught(fault, by_check, blown.preemptions))
            print(caught_line(found[-1]), flush=True)
            stage.planting.choose("")
            stage.restarts()
        _empty_slots(stage.cast)
        last = storm(stage, "after", responses, FAULT_SAMPLE, 3)
        last.findings.by_check += first.findings.by_check
        last.findings.notes += first.findings.notes
        last.findings.distances += first.findings.distances
    return found, last


def _empty_slots(players: Cast) -> None:
    """What was loaded under one fault does not stay for the next."""
    for tenant in players.tenants:
        api = tenant.generator.api
        for adapter in api.ListAdapters(generator_pb2.ListAdaptersRequest()).adapters:
            if adapter.tier == generator_pb2.TIER_SLOT:
                api.UnloadAdapter(generator_pb2.UnloadAdapterRequest(version=adapter.version))


def caught_line(caught: Caught) -> str:
    """For people: the fault and which checks found it how often."""
    by = ", ".join(f"{check} {times}" for check, times in sorted(caught.by.items())) or "NOBODY"
    return f"  {caught.fault.name:26} {caught.fault.meaning:58} {by}"


def told(blown: Storm) -> str:
    """For people: what a storm was and what was found."""
    findings, outcome = blown.findings, blown.outcome
    nats = sorted(findings.distances)
    left = sum(response.left for response in outcome.responses)
    cached = sum(bool(response.cached_tokens) for response in outcome.responses)
    lines = [
        f"storm {blown.title}: {findings.answers} answers in {outcome.seconds:.0f} s, {left} given up, "
        f"{outcome.swaps} loads and removals, {outcome.moves} alias moves, {blown.preemptions} preemptions, "
        f"{cached} answers began from cached prompts, slots {dict(sorted(blown.slots.items()))}",
        f"  rescored in fp32: {findings.rescored} under their own version (nats a token: mean "
        f"{statistics.fmean(nats):.3f}, p99 {nats[int(0.99 * (len(nats) - 1))]:.3f}, most {nats[-1]:.3f}), "
        f"{findings.rescored_everywhere} under every version (nearest other: median "
        f"{statistics.median(findings.nearest_other):.2f})",
        f"  wrong: {len(findings.wrong)} {dict(findings.by_check)}; failed swaps: {Counter(outcome.swap_failures)}",
    ]
    return "\n".join(lines + [f"    {note}" for note in findings.notes])


if __name__ == "__main__":
    import sys

    if "faults" in sys.argv:
        wanted = tuple(fault for fault in FAULTS if len(sys.argv) == 2 or fault.name in sys.argv)
        caught, after = planted_faults(wanted)
        print(told(after))
        print(f"{sum(bool(each.by) for each in caught)} of {len(caught)}")
    else:
        print(told(wrong_weights(int(sys.argv[1]))))
