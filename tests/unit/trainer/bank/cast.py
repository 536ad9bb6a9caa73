"""Jobs that differ in everything, trained in company or one alone: what both ways must end with the same bits.

`python -m tests.unit.trainer.bank.cast BASE GROUP [-- GROUP ...]` prints for each group, as a line of JSON, the sha256 of
each job's tensors after its last update, under each dtype and thread count.  A group is `together` or `recomputed`, all
jobs on one bank, or names of jobs, each alone on a separate bank.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from services.trainer.bank import Bank, Initialisation, Scores, Segment, Slot, SlotSpec, Update
from services.trainer.data.examples import Example
from tests.harness.forks import run_in_fork

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
THREADS = (1, 2)
VOCABULARY = 256
# All jobs together; whether layers are computed again.
COMPANY = {"together": False, "recomputed": True}


@dataclass(frozen=True, slots=True)
class Job:
    """A job of the cast: it takes part in steps [joins, joins + updates), a pass a part of its batch."""

    spec: SlotSpec
    lengths: tuple[int, ...]
    updates: int
    joins: int = 0
    passes: int = 1
    rate: float = 1e-2
    decay: float = 0.0
    clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    preference: bool = False


@dataclass
class Running:
    """A job on a bank."""

    job: Job
    slot: Slot
    done: int = 0
    batches: Iterator[list[Example]] = field(default_factory=lambda: iter(()))


JOBS: Mapping[str, Job] = {
    "plain": Job(SlotSpec(rank=8, alpha=16, seed=1), (7, 30), updates=6),
    "long": Job(SlotSpec(rank=4, alpha=8, rslora=True, seed=2), (150, 3), updates=3, joins=1, rate=3e-3, decay=0.1),
    "single": Job(SlotSpec(rank=1, alpha=1, seed=3), (2,), updates=5, joins=2, clip=0.0, betas=(0.8, 0.99)),
    "dropping": Job(
        SlotSpec(rank=6, alpha=3, dropout=0.25, seed=4, target_modules=("q_proj", "down_proj")), (11, 12), updates=6
    ),
    "partial": Job(
        SlotSpec(rank=32, alpha=64, seed=5, layers=(1,), rank_pattern={"v_proj": 12}), (33, 5, 9), updates=4, passes=3
    ),
    "preferring": Job(
        SlotSpec(rank=16, alpha=16, seed=6, initialisation=Initialisation.ORTHOGONAL),
        (20, 24),
        updates=4,
        joins=3,
        preference=True,
    ),
}


def examples(job: Job, count: int, *, seed: int) -> list[Example]:
    """Sequences of the job's lengths, one after another, a question and its supervised answer."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for index in range(count):
        length = job.lengths[index % len(job.lengths)]
        tokens = torch.randint(0, VOCABULARY, (length,), generator=generator).tolist()
        found.append(Example(tuple(tokens), tuple(place >= length // 3 for place in range(length))))
    return found


def loss_of(job: Job, scores: Scores, denominator: int) -> Tensor:
    """A supervised loss, or a preference for the first of two sequences."""
    if not job.preference:
        return -scores.log_probs.sum() / denominator
    chosen, rejected = (part.sum() for part in scores.log_probs.split(scores.lengths))
    return -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected))


def start(bank: Bank, job: Job) -> Running:
    """Open the job's slot and lay out its passes."""
    width = len(job.lengths)
    rows = examples(job, width * job.updates * job.passes, seed=job.spec.seed)
    return Running(job, bank.open(job.spec), batches=iter(rows[i : i + width] for i in range(0, len(rows), width)))


def step(bank: Bank, taking_part: list[Running], company: list[Segment], *, recomputes: bool = False) -> None:
    """One step of each job: as many joint passes as the most patient one needs, then everybody's update."""
    for index in range(max(each.job.passes for each in taking_part)):
        training = [each for each in taking_part if index < each.job.passes]
        batches = [next(each.batches) for each in training]
        segments = [Segment(each.slot, batch, True) for each, batch in zip(training, batches, strict=True)]
        scores = bank.score([*segments, *company], recomputes=recomputes)
        bank.backward(
            [
                loss_of(each.job, found, sum(example.supervised_tokens for example in batch) * each.job.passes)
                for each, found, batch in zip(training, scores, batches, strict=False)
            ]
        )
    bank.update(
        [
            Update(
                slot=each.slot,
                learning_rate=each.job.rate / (1 + each.done),
                beta1=each.job.betas[0],
                beta2=each.job.betas[1],
                weight_decay=each.job.decay,
                max_gradient_norm=each.job.clip,
            )
            for each in taking_part
        ]
    )
    for each in taking_part:
        each.done += 1


def train(bank: Bank, names: list[str], *, alone: bool, recomputes: bool = False) -> dict[str, str]:
    """Train these jobs to their ends; in company they join and leave, and evaluations run beside them."""
    running: dict[str, Running] = {}
    digests = {}
    for number in range(max(JOBS[name].joins + JOBS[name].updates for name in names)):
        for name in names:
            if JOBS[name].joins == number:
                running[name] = start(bank, JOBS[name])
        taking_part = [each for name, each in running.items() if name not in digests]
        if not taking_part:
            continue
        # Somebody else's evaluation, on the base and on a slot that trains in the same pass.
        looked_at = examples(JOBS["plain"], 1 + number % 3, seed=90 + number)
        company = [] if alone else [Segment(None, looked_at, False), Segment(taking_part[-1].slot, looked_at, False)]
        step(bank, taking_part if number % 2 or alone else taking_part[::-1], company, recomputes=recomputes)
        for name, each in running.items():
            if each.done == each.job.updates and name not in digests:
                digests[name] = digest(each.slot)
                bank.close(each.slot)
    return digests


def digest(slot: Slot) -> str:
    """sha256 of all of a slot's tensors, names included."""
    found = hashlib.sha256()
    for name, tensor in sorted(slot.tensors().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


def load(folder: Path, dtype: torch.dtype) -> Bank:
    """A bank on a base of its own."""
    from transformers import AutoModelForCausalLM

    return Bank(AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype))


def found_by(folder: Path, wanted: list[str]) -> dict[str, dict[str, str]]:
    """Train and return the digests, by dtype and number of threads."""
    found: dict[str, dict[str, str]] = {}
    for dtype_name, dtype in DTYPES.items():
        for threads in THREADS:
            torch.set_num_threads(threads)
            here = found.setdefault(f"{dtype_name}, {threads}", {})
            if wanted[0] in COMPANY:
                here.update(train(load(folder, dtype), list(JOBS), alone=False, recomputes=COMPANY[wanted[0]]))
            for name in wanted if not here else ():
                here.update(train(load(folder, dtype), [name], alone=True))
    return found


def main() -> None:
    """Print the digests of each group of jobs, a line each: each group has a fork that knows of no other group."""
    import transformers.models.auto.modeling_auto

    del transformers
    folder = Path(sys.argv[1])

    def write_digests(names: list[str]) -> None:
        sys.stdout.write(json.dumps(found_by(folder, names)) + "\n")

    for group in " ".join(sys.argv[2:]).split(" -- "):
        # This process has computed nothing, so that it has no threads yet.
        if status := run_in_fork(partial(write_digests, group.split())):
            sys.exit(f"{group}: {status}")


if __name__ == "__main__":
    main()
