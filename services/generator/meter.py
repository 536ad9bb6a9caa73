"""What is counted of generations, per version and bounded.

vLLM's own LoRA metric joins all names into one label value, a new series for every mix.
Invariant: a version is a label value only for the first few that this process meets; all
later ones count as ``other``.
"""

from __future__ import annotations

from services.chassis.telemetry import Bounded, Telemetry
from services.generator.asking import Done

_VERSIONS = 32


class Meter:
    """Counters of one generator; ``observe`` is called once an answer that began, however it ended."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._version = Bounded(_VERSIONS)
        self._answers = telemetry.counter("generator_answers", "Answers that ended.", ("version", "finish"))
        self._tokens = telemetry.counter("generator_tokens", "Tokens of ended answers.", ("version", "kind"))
        self._stages = telemetry.histogram("generator_stage_seconds", "Wall time of a stage.", ("version", "stage"))

    def observe(self, done: Done) -> None:
        """Count an answer under the version that the engine attested."""
        opening = done.opening
        version = self._version(opening.attestation.version or "base")
        for choice in done.choices:
            self._answers.labels(version, choice.finish.value).inc()
        self._tokens.labels(version, "prompt").inc(opening.prompt_tokens)
        self._tokens.labels(version, "cached_prompt").inc(opening.cached_tokens)
        self._tokens.labels(version, "completion").inc(done.completion_tokens)
        for stage in done.stages:
            self._stages.labels(version, stage.name).observe(stage.seconds)
