"""What is counted of generations, per version and bounded.

vLLM's own LoRA metric joins all names into one label value, a new series for every mix.
Invariant: at most ``limit`` versions have series of their own, those that were used most;
all others count as ``other``, and what a version counted goes there when it gives way.
"""

from __future__ import annotations

from services.chassis.telemetry import Telemetry
from services.generator.asking import Done

_BASE = "base"
_OTHER = "other"


class Busiest:
    """The names that were used most, by the counters of Space-Saving (Metwally, Agrawal, El Abbadi, 2005).

    Twice ``limit`` counters are kept: a name that none has takes the lowest one over, its count included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._shown: set[str] = set()

    def use(self, name: str, weight: int) -> str | None:
        """Count a use; the name, if any, that gives its place to this one."""
        if name not in self._counts and len(self._counts) >= 2 * self._limit:
            lowest = min(self._counts.keys() - self._shown, key=lambda other: self._counts[other])
            self._counts[name] = self._counts.pop(lowest)
        self._counts[name] = self._counts.get(name, 0) + weight
        if name in self._shown:
            return None
        if len(self._shown) < self._limit:
            self._shown.add(name)
            return None
        least = min(self._shown, key=lambda other: self._counts[other])
        if self._counts[name] <= self._counts[least]:
            return None
        self._shown.remove(least)
        self._shown.add(name)
        return least

    def label(self, name: str) -> str:
        """The name, or ``other``."""
        return name if name in self._shown else _OTHER


class Meter:
    """Metrics of one generator; ``observe`` is called once for answers that began, however they ended."""

    def __init__(self, telemetry: Telemetry, limit: int) -> None:
        self._busiest = Busiest(limit)
        self._answers = telemetry.counter("generator_answers", "Answers that ended.", ("version", "finish"))
        self._tokens = telemetry.counter("generator_tokens", "Tokens of ended answers.", ("version", "kind"))
        self._stages = telemetry.histogram("generator_stage_seconds", "Wall time of a stage.", ("version", "stage"))
        self._first = telemetry.histogram(
            "generator_first_token_seconds", "Wall time from the request to its first token.", ("version",)
        )

    def observe(self, done: Done) -> None:
        """Count answers under the version that the engine attested."""
        opening = done.opening
        version = opening.version
        if version:
            gone = self._busiest.use(version, 1 + opening.prompt_tokens + done.completion_tokens)
            if gone is not None:
                self._retire(gone)
        label = self._busiest.label(version) if version else _BASE
        for choice in done.choices:
            self._answers.labels(label, choice.finish.value).inc()
        self._tokens.labels(label, "prompt").inc(opening.prompt_tokens)
        self._tokens.labels(label, "cached_prompt").inc(opening.cached_tokens)
        self._tokens.labels(label, "completion").inc(done.completion_tokens)
        for stage in done.stages:
            self._stages.labels(label, stage.name).observe(stage.seconds)
        self._first.labels(label).observe(sum(stage.seconds for stage in done.stages if stage.name != "generate"))

    def _retire(self, version: str) -> None:
        """End a version's series; its counts go on under ``other``, its distributions are told no more."""
        for counter in (self._answers, self._tokens):
            for metric in list(counter.collect()):
                for sample in metric.samples:
                    if sample.labels["version"] == version and sample.name.endswith("_total"):
                        rest = [value for name, value in sample.labels.items() if name != "version"]
                        counter.labels(_OTHER, *rest).inc(sample.value)
        for metrics in (self._answers, self._tokens, self._stages, self._first):
            metrics.remove_by_labels({"version": version})
