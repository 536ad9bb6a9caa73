"""One set, four ways: the base as it is, the base with examples in its prompt, LoRA, full fine-tuning.

Invariant: all ways are asked the same rows in the same words, greedily; only what they were given beforehand differs.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chassis.models import DEFAULT_BASE, resolve
from services.chassis.resources import Role, shares
from services.trainer.settings import Method
from tests import tied
from tests.load.finetune_quality.answering import Batch, Order, batches_in
from tests.load.finetune_quality.deployment import Deployment, deployed
from tests.load.finetune_quality.floor import floor
from tests.load.finetune_quality.rows import QualitySet
from tests.load.finetune_quality.scores import Interval, Measured, paired_interval, preference
from tests.load.finetune_quality.state import State
from tests.load.finetune_quality.training import METHODS, Trained, drop_others, fetched, fingerprint, swept

BASE, FEW_SHOT = "base", "few_shot"
_LOOK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Way:
    """What one way reached and what it took; training is 0 where there is none, bytes are of weights or prompt."""

    measured: Measured
    rate: float
    train_seconds: float
    train_cpu_seconds: float
    train_peak_bytes: int
    answer_seconds: float
    answer_cpu_seconds: float
    answer_peak_bytes: int
    stored_bytes: int
    trainable_parameters: int


@dataclass(frozen=True, slots=True)
class Compared:
    """The ways by name, LoRA's figure minus full fine-tuning's, the floor where the set has one; seconds of this run.

    `over_floor` is each trained way's figure minus the floor's, empty without one.  `people` is what the set's own answers reach: 1 where only they are right, else how strict the counting is.
    """

    ways: dict[str, Way]
    interval: Interval
    floor: Measured | None
    over_floor: dict[str, Interval]
    people: Measured | None
    seconds: float


def compared(task: QualitySet, state: State, suite: Path, seed: int) -> Compared:
    """Do what `state` lacks of a set; what it has is taken from there."""
    begun = time.monotonic()
    state.open(fingerprint(task, seed))
    trained = {method.value: Trained.read(state, f"chosen-{method.value}") for method in METHODS}
    if None in trained.values():
        with deployed(suite) as deployment:
            trained = {method.value: _chosen(deployment, state, task, method, seed) for method in METHODS}
    given = {name: _answered(task, state, name) for name in (BASE, FEW_SHOT, *trained)}
    ways = {
        name: _way(task, order_of(task, name, state), given[BASE], given[name], trained.get(name)) for name in given
    }
    lora, full = (ways[method.value].measured for method in (Method.LORA, Method.FULL))
    interval = paired_interval(lora, full, seed=seed)
    linear = floor(task.training, task.test, seed) if task.labelled else None
    over = over_floor({name: ways[name].measured for name in trained}, linear, seed)
    people = task.measure(task.test, [row.answer for row in task.test]) if task.measure is not None else None
    return Compared(ways, interval, linear, over, people, time.monotonic() - begun)


def over_floor(found: Mapping[str, Measured], linear: Measured | None, seed: int) -> dict[str, Interval]:
    """Each figure minus the floor's, over the rows that both were asked; nothing where the set has no floor."""
    if linear is None:
        return {}
    return {name: paired_interval(each, linear, seed=seed) for name, each in found.items()}


def _chosen(deployment: Deployment, state: State, task: QualitySet, method: Method, seed: int) -> Trained:
    """The best rate of a method, its version in the set's folder; the versions of the others go."""
    done = swept(deployment, state, task, method, seed)
    fetched(deployment, _weights(state, method.value), done[0].version)
    drop_others(deployment, done)
    done[0].write(state, f"chosen-{method.value}")
    return done[0]


def _weights(state: State, name: str) -> Path:
    return state.folder / f"weights-{name}"


def order_of(task: QualitySet, name: str, state: State) -> Order:
    """What is asked of one way."""
    base, weights = str(resolve(DEFAULT_BASE).path), str(_weights(state, name))
    untrained = name in (BASE, FEW_SHOT)
    return Order(
        tokenizer=base,
        model=weights if name == Method.FULL.value else base,
        adapter=weights if name == Method.LORA.value else "",
        system=task.told if untrained else task.instruction,
        shots=task.shots if name == FEW_SHOT else (),
        rows=task.test,
        answer_tokens=task.answer_tokens,
    )


def _answered(task: QualitySet, state: State, name: str) -> list[Batch]:
    """Have what is missing answered by a process of its own, which ends with this one.  Raises RuntimeError."""
    order, output = state.folder / f"order-{name}.json", state.folder / f"answers-{name}.jsonl"
    order_of(task, name, state).write(order)
    # As many threads as training has, which wait asleep.
    environment = os.environ | shares()[Role.TRAINER].environment()
    process = tied.start(
        [sys.executable, "-m", "tests.load.finetune_quality.answering", order, output], env=environment
    )
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_SECONDS)
        rows = sum(len(batch.places) for batch in batches_in(output))
        print(f"  {name}: {rows} of {len(task.test)} rows asked", flush=True)
    if process.returncode:
        raise RuntimeError(f"asking {name} ended with status {process.returncode}; what it said is above")
    return batches_in(output)


def _way(task: QualitySet, order: Order, base: Sequence[Batch], own: Sequence[Batch], trained: Trained | None) -> Way:
    prompt = len((order.system + "".join(shot.text + shot.answer for shot in order.shots)).encode())
    return Way(
        measured=measured(task, base, own),
        rate=trained.rate if trained else 0.0,
        train_seconds=trained.wall_seconds if trained else 0.0,
        train_cpu_seconds=trained.cpu_seconds if trained else 0.0,
        train_peak_bytes=trained.peak_bytes if trained else 0,
        answer_seconds=sum(batch.wall_seconds for batch in own),
        answer_cpu_seconds=sum(batch.cpu_seconds for batch in own),
        answer_peak_bytes=max(batch.peak_bytes for batch in own),
        stored_bytes=trained.stored_bytes if trained else prompt,
        trainable_parameters=trained.trainable_parameters if trained else 0,
    )


def measured(task: QualitySet, base: Sequence[Batch], own: Sequence[Batch]) -> Measured:
    """Count what was found of all test rows; of pairs beside what the base has of them."""
    given = _by_row(own)
    if task.measure is not None:
        return task.measure(task.test, given)
    margins = [nats - those for nats, those in zip(given, _by_row(base), strict=True)]
    return preference(margins, given)


def _by_row(batches: Sequence[Batch]) -> list[Any]:
    found = {place: each for batch in batches for place, each in zip(batch.places, batch.found, strict=True)}
    return [found[place] for place in range(len(found))]
