"""A suite over a folder that outlives it, with the subjects' collections and one adapter trained on their training part.

Invariant: started again over the same folder it goes on: what is ingested stays, the same order is the same job.
"""

import json
import random
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from trivium_client import Trivium
from trivium_client.errors import ConflictError
from trivium_client.nouns import LoraSettings, TrainingSettings

from tests.load.ask_quality import raft
from tests.load.ask_quality.subjects import Subject
from tests.load.finetune_quality.state import State
from tests.load.retriever.sets import Source

ADAPTER = "raft-ask-quality"
SETTINGS = TrainingSettings(
    method="lora",
    schedule="linear",
    lora=LoraSettings(rank=16, alpha=32.0),
    epochs=2,
    batch_rows=8,
    seed=0,
    max_row_tokens=2048,
)
_NAMES = uuid.UUID("b0a2f0a3-2f6d-4b52-9f57-0b7f1a6d9f10")


@dataclass(frozen=True, slots=True)
class Texts:
    """The documents of one subject as the retriever keeps them, by name: of training and of the test."""

    training: dict[str, str]
    test: dict[str, str]


def training_collection(subject: Subject) -> str:
    """Its name."""
    return f"{subject.name}-training"


def ingested(client: Trivium, subject: Subject) -> Texts:
    """Bring in both collections and read them back."""
    training = _ingested(client, training_collection(subject), subject.training_documents)
    return Texts(training, _ingested(client, subject.name, subject.test_documents))


def _ingested(client: Trivium, collection: str, sources: Sequence[Source]) -> dict[str, str]:
    with suppress(ConflictError):
        client.collections.create(collection)
    with tempfile.TemporaryDirectory() as folder:
        for source in sources:
            (Path(folder) / source.document).write_bytes(source.content)
        report = client.docs.add_folder(folder, collection=collection)
    for _ in client.docs.watch(collection):
        pass
    kept = {it.document: it.state for it in client.docs.list(collection)}
    missing = [source.document for source in sources if kept.get(source.document) != "ready"]
    if report.refused or missing:
        raise RuntimeError(f"{collection}: not ingested: {[it.path for it in report.refused]} {missing}")
    return {source.document: client.docs.text(source.document, collection=collection).text for source in sources}


def trained(client: Trivium, state: State, subjects: Sequence[tuple[Subject, Texts]], seed: int) -> dict[str, object]:
    """The adapter's version, trained or as it was; its rows and tokens beside it.  Raises RuntimeError if it fails."""
    kept = state.read("trained")
    if kept is not None:
        found: dict[str, object] = kept
        return found
    chance = random.Random(seed)
    rows = [
        row
        for subject, texts in subjects
        for row in raft.rows(client, training_collection(subject), subject.training, texts.training, chance)
    ]
    chance.shuffle(rows)
    path = state.folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    dataset = client.data.upload(path, name=ADAPTER)
    # The same rows again are the same job, also when this process is killed before it has noted which.
    wanted = str(uuid.uuid5(_NAMES, f"{dataset.digest} {seed}"))
    job = client.jobs.create(
        model=ADAPTER, dataset=dataset.dataset, settings=SETTINGS, alias="prod", request_id=wanted
    ).job
    print(f"trains {len(rows)} rows", flush=True)
    for event in client.jobs.watch(job):
        if event.kind == "step" and event.step % 20 == 0:
            print(f"  step {event.step} of {event.total_steps}: loss {event.loss:.3f}", flush=True)
    ended = client.jobs.get(job)
    if ended.state != "succeeded":
        raise RuntimeError(f"the job {job} is {ended.state}: {ended.error}")
    result = {"version": ended.version, "rows": len(rows), "trained_tokens": ended.trained_tokens}
    state.write("trained", result)
    return result
