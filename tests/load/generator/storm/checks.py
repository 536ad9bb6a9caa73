"""What every answer of a storm is held to, and what all of them together are.

An answer's log probabilities, as the engine told them, are compared with the reference's for the same tokens: in
bfloat16 they lie some hundredths of a nat apart, under the weights of another version one or more.  Partial
contamination lies between, which is why one answer's mean, and the mean over all answers of a version, are held to
bounds of their own; ``tests/unit/load`` shows each check refuse a forged answer.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch

from tests.load.generator.storm.cast import Version
from tests.load.generator.storm.reference import Reference
from tests.load.generator.storm.traffic import Outcome, Response

# Mean distance in nats a token: of one answer, and of all answers of a version.  Rounding alone stays below a third.
ANSWER_NATS = 0.45
VERSION_NATS = 0.13
_MINIMAL_ANSWERS = 4
_CLIPPED_NATS = 3.0


class Check(StrEnum):
    """What found something."""

    ATTESTATION = "attestation"
    FAILURE = "failure"
    NAME = "name"
    MARK = "mark"
    DISTANCE = "distance"
    LIKELIEST = "likeliest"
    DRIFT = "drift"
    CACHE = "cache"
    DEATH = "death"


@dataclass
class Findings:
    """What the checks found: how many answers each, which answers, and how far from the reference they lay."""

    by_check: Counter[Check] = field(default_factory=Counter)
    wrong: set[int] = field(default_factory=set)
    rescored: int = 0
    rescored_everywhere: int = 0
    answers: int = 0
    distances: list[float] = field(default_factory=list)
    nearest_other: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, check: Check, response: Response, note: str = "") -> None:
        """Count an answer."""
        self.by_check[check] += 1
        self.wrong.add(id(response))
        if len(self.notes) < 8:
            self.notes.append(f"{check}: asked {response.ask.version[:15] or 'the base'} {note}")


def plain_checks(versions: Sequence[Version], outcome: Outcome) -> Findings:
    """What needs no reference: refusals, names, marks, whose prompts were cached."""
    findings = Findings()
    marks = {version.digest: version.mark for version in versions}
    for response in outcome.responses:
        if response.left:
            continue
        findings.answers += 1
        if response.failure:
            findings.add(Check.FAILURE, response, response.failure)
            continue
        if response.named != response.ask.version or (response.slot >= 0) != bool(response.ask.version):
            findings.add(Check.NAME, response, f"named {response.named}")
        mark = marks.get(response.ask.version)
        if mark is not None and set(response.tokens) != {mark}:
            findings.add(Check.MARK, response, f"said {response.tokens}")
        if response.cached_tokens and not _has_elder(response, outcome.responses):
            findings.add(Check.CACHE, response, f"found {response.cached_tokens} tokens cached by somebody else")
    return findings


def tell_attestation(findings: Findings, refused: int) -> None:
    """Of the failures so many were refusals of the attestation, which callers see as internal errors."""
    refused = min(refused, findings.by_check[Check.FAILURE])
    findings.by_check += Counter({Check.ATTESTATION: refused})
    findings.by_check -= Counter({Check.FAILURE: refused})


def _has_elder(response: Response, all_of_them: Sequence[Response]) -> bool:
    """Whether a request of the same tenant, version and beginning was there before this one ended."""
    ask = response.ask
    return any(
        other is not response
        and other.begun < response.ended
        and (other.ask.tenant, other.ask.version, other.ask.beginning) == (ask.tenant, ask.version, ask.beginning)
        for other in all_of_them
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """How many answers of each version are rescored under it, and how many of all under every version."""

    of_each: int
    everywhere: int


def rescore(
    versions: Sequence[Version], outcome: Outcome, reference: Reference, findings: Findings, sample: Sample
) -> None:
    """Hold answers to their version's reference, and some of them to every version's."""
    answered = [response for response in outcome.responses if response.tokens and not response.failure]
    whole: list[Response] = []
    for version in ("", *(version.digest for version in versions)):
        mine = [response for response in answered if response.ask.version == version][: sample.of_each]
        whole += mine
        if not mine:
            continue
        distances = [
            distance(response.logprobs, scores)
            for response, scores in zip(mine, reference.logprobs(version, mine), strict=True)
        ]
        findings.distances += distances
        for response, nats in zip(mine, distances, strict=True):
            if nats > ANSWER_NATS:
                findings.add(Check.DISTANCE, response, f"lies {nats:.2f} nats a token from its version")
        if len(mine) >= _MINIMAL_ANSWERS and statistics.fmean(distances) > VERSION_NATS:
            findings.add(Check.DRIFT, mine[0], f"answers lie {statistics.fmean(distances):.3f} nats from it on average")
    findings.rescored += len(whole)
    step = max(1, len(whole) // sample.everywhere)
    _rescore_everywhere(versions, whole[::step][: sample.everywhere], reference, findings)


def _rescore_everywhere(
    versions: Sequence[Version], sample: list[Response], reference: Reference, findings: Findings
) -> None:
    scores = {
        version: reference.logprobs(version, sample)
        for version in ("", *(version.digest for version in versions))
        if sample
    }
    findings.rescored_everywhere += len(sample)
    for number, response in enumerate(sample):
        apart = {version: distance(response.logprobs, told[number]) for version, told in scores.items()}
        own = apart.pop(response.ask.version)
        nearest = min(apart, key=lambda version: apart[version])
        findings.nearest_other.append(apart[nearest])
        # An answer of very few tokens may lie near two versions; far from its own it may not.
        if apart[nearest] < own and own > VERSION_NATS:
            findings.add(
                Check.LIKELIEST, response, f"is {own:.2f} nats from its version, {apart[nearest]:.2f} from another"
            )


def distance(told: Sequence[float], scored: torch.Tensor) -> float:
    """Mean distance in nats a token; one token counts for three nats at most, and one without a number for that."""
    apart = (torch.tensor(told) - scored).abs().nan_to_num(_CLIPPED_NATS).clamp(max=_CLIPPED_NATS)
    return float(apart.mean())
