"""A tenant with one of everything, in a running suite: what others are to see nothing of."""

import json
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium_client import Trivium
from trivium_client.answers import Message, Sampling
from trivium_client.governance_nouns import Gate
from trivium_client.nouns import TrainingSettings

from services.ops.supervisor import Suite
from tests.adapters import Adapter
from tests.security.crossing.guesses import COMMON

_ONE_TOKEN = Sampling(max_tokens=1)
_SECONDS = 60.0
# The hidden size of the embedded default.
_WIDTH = 576


@dataclass(frozen=True, slots=True)
class Person:
    """A tenant and a key of its owner; ``words`` are those that nobody else has, made for what it has.

    ``unlisted`` are ids that no list tells, by what requests call them.
    """

    tenant: str
    key: str
    words: tuple[str, ...] = ()
    unlisted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class _Words:
    """Makes words, each of its own, and remembers them."""

    made: list[str] = field(default_factory=list)

    def new(self) -> str:
        self.made.append(uuid.uuid4().hex[:12])
        return self.made[-1]


async def newcomer(access: grpc.aio.Channel, admin_key: str, kind: str = "stranger") -> Person:
    """A new tenant, and a key with all that its owner may do."""
    stub: Any = access_pb2_grpc.AccessServiceStub(access)
    tenant = f"{kind}-{uuid.uuid4().hex[:12]}"
    call: dict[str, Any] = {"metadata": (("authorization", f"Bearer {admin_key}"),), "timeout": _SECONDS}
    await stub.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant), **call)
    roles = (access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER)
    made = await stub.CreateKey(access_pb2.CreateKeyRequest(tenant=tenant, roles=roles), **call)
    return Person(tenant, made.api_key)


def settled(suite: Suite, person: Person) -> Person:
    """Gives a tenant people, models, datasets, jobs, documents, files, batches, answers and their receipts.

    Beside what carries words of its own it has a collection and a model of each common name.
    """
    words = _Words()
    with Trivium(api_key=person.key, addresses=suite.addresses) as client, tempfile.TemporaryDirectory() as folder:
        _people(client, words)
        _documents(client, words)
        _models(client, Path(folder), words)
        _training(client, Path(folder), words)
        client.reply([Message("user", f"Say {words.new()}.")], sampling=_ONE_TOKEN)
        responses, batches = _filed(client, suite.http, person.key, Path(folder), words)
    unlisted = {"response": responses, "batch": batches}
    return Person(person.tenant, person.key, tuple(words.made), unlisted)


def _people(client: Trivium, words: _Words) -> None:
    for _ in range(2):
        word = words.new()
        client.projects.create(f"project-{word}")
        client.users.create(f"user of {word}", projects=[f"project-{word}"])
        client.keys.create(display_name=f"key of {words.new()}")


def _documents(client: Trivium, words: _Words) -> None:
    # Several collections: where there is a second page there is a token.
    for collection in (f"papers-{words.new()}", *COMMON):
        client.collections.create(collection, f"about {words.new()}")
        for number in range(2):
            word = words.new()
            text = f"{word} is worth {number} crowns."
            client.docs.add_text(text, document=f"{word}.md", collection=collection, title=f"On {words.new()}")
        for _ in client.docs.watch(collection):
            pass


def _models(client: Trivium, folder: Path, words: _Words) -> None:
    digest = client.models.base_digest("base")
    for name in (f"voice-{words.new()}", *COMMON):
        for number in range(2):
            version = folder / f"{name}-{number}"
            version.mkdir()
            salt = int(words.new(), 16) % 10_000_000 / 1000 + 1
            for filename, content in Adapter(salt=salt, inputs=_WIDTH, outputs=_WIDTH).files().items():
                (version / filename).write_bytes(content)
            made = client.models.add_version(name, version, base_digest=digest)
        client.models.tag(made.version, add=[f"tag-{words.new()}"])
        client.models.evaluate(made.version, "exact", 1.0, note=f"noted by {words.new()}")
        client.models.create_gate(name, Gate(f"gate-{words.new()}", "exact"))
        client.models.set_alias(name, made.version, reason=f"because of {words.new()}")


def _training(client: Trivium, folder: Path, words: _Words) -> None:
    for _ in range(2):
        word = words.new()
        path = folder / f"{word}.jsonl"
        _write(path, [{"prompt": f"{word} {place}", "completion": f"answer {place}"} for place in range(8)])
        dataset = client.data.upload(path, name=f"rows-{word}").dataset
        job = client.jobs.create(model=f"learner-{word}", dataset=dataset, settings=TrainingSettings(max_steps=1))
        client.jobs.cancel(job.job)


def _filed(
    client: Trivium, http: str, key: str, folder: Path, words: _Words
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What lies in the service of files, and what only the door of HTTP makes: ids of responses, of batches of files."""
    store, responses, batches = COMMON[0], list[str](), list[str]()
    with httpx.Client(base_url=http, headers={"authorization": f"Bearer {key}"}, timeout=_SECONDS) as door:
        for _ in range(2):
            word = words.new()
            path = folder / f"batch-{word}.jsonl"
            body = {"model": "base", "messages": [{"role": "user", "content": word}], "max_tokens": 1}
            _write(path, [{"custom_id": word, "method": "POST", "url": "/v1/chat/completions", "body": body}])
            client.batches.cancel(client.batches.create(client.files.upload(path, purpose="batch").file).batch)
            note = folder / f"note-{words.new()}.md"
            note.write_text(f"{words.new()} is noted.")
            file = client.files.upload(note, purpose="assistants").file
            batches.append(_post(door, f"/v1/vector_stores/{store}/file_batches", {"file_ids": [file]}))
            answer = {"model": "base", "input": f"Say {words.new()}.", "max_output_tokens": 16}
            responses.append(_post(door, "/v1/responses", {**answer, "metadata": {"mark": words.new()}}))
    for _ in client.docs.watch(store):
        pass
    return tuple(responses), tuple(batches)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _post(door: httpx.Client, path: str, body: Mapping[str, Any]) -> str:
    answer = door.post(path, json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    return str(answer.json()["id"])
