"""A tenant with one of everything, in a running suite: what others are to see nothing of."""

import json
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from trivium_client import Trivium
from trivium_client.answers import Message, Sampling
from trivium_client.nouns import TrainingSettings

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import adapter_files

_DEADLINE_TOKENS = Sampling(max_tokens=1)


@dataclass(frozen=True, slots=True)
class Person:
    """A tenant and a key of its owner."""

    tenant: str
    key: str


def newcomer(suite: Suite, name: str = "") -> Person:
    """A new tenant, and a key with all that its owner may do."""
    tenant = name or f"stranger-{uuid.uuid4().hex[:12]}"
    with suite.client() as admin:
        admin.tenants.create(tenant)
        return Person(tenant, admin.keys.create(tenant=tenant, roles=("owner", "member")).secret)


def settled(suite: Suite) -> Person:
    """A tenant that has a key, a model with two versions and an alias, a dataset, a job, documents, and receipts."""
    person = newcomer(suite, f"owner-{uuid.uuid4().hex[:12]}")
    word = uuid.uuid4().hex[:12]
    with Trivium(api_key=person.key, addresses=suite.addresses) as client, tempfile.TemporaryDirectory() as folder:
        _documents(client, word)
        _model(client, Path(folder), word)
        _training(client, Path(folder), word)
        client.keys.create(display_name=f"key of {word}")
        client.reply([Message("user", f"Say {word}.")], sampling=_DEADLINE_TOKENS)
        client.answer(f"What is {word}?", collections=f"papers-{word}", sampling=_DEADLINE_TOKENS)
    return person


def _documents(client: Trivium, word: str) -> None:
    # Two collections: where there is a second page there is a token.
    for collection in (f"papers-{word}", f"letters-{word}"):
        client.collections.create(collection, f"about {word}")
        for number in range(2):
            client.docs.add_text(
                f"{word} is worth {number} crowns.", document=f"{word}-{number}.md", collection=collection
            )
        for _ in client.docs.watch(collection):
            pass


def _model(client: Trivium, folder: Path, word: str) -> None:
    for seed in (1, 2):
        version = folder / str(seed)
        version.mkdir()
        for name, content in adapter_files(seed).items():
            (version / name).write_bytes(content)
        digest = client.models.base_digest("base")
        made = client.models.add_version(f"voice-{word}", version, base_digest=digest)
    client.models.set_alias(f"voice-{word}", made.version)


def _training(client: Trivium, folder: Path, word: str) -> None:
    for number in range(2):
        rows = [{"prompt": f"{word} {place} {number}", "completion": f"answer {place}"} for place in range(8)]
        path = folder / f"{word}-{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        dataset = client.data.upload(path, name=f"rows-{word}-{number}").dataset
        job = client.jobs.create(model=f"learner-{word}", dataset=dataset, settings=TrainingSettings(max_steps=1))
        client.jobs.cancel(job.job)
