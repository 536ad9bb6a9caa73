"""kill -9 of any one process while the suite serves: it comes back, and nothing acknowledged is gone.

Promise 1.  The suite is the shared one: after each kill it must be whole again.
"""

import json
import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from trivium_client import PreconditionError, Trivium
from trivium_client.answers import Message, Sampling
from trivium_client.nouns import TrainingSettings

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import serve_adapter
from tests.stack import eventually

SERVICES = ("access", "registry", "trainer", "embedder", "retriever", "files", "gateway", "generator")
# An engine arms its parent-death signal once it has imported vLLM: on a busy machine that alone takes half a minute.
ENDED_SECONDS = 90.0
# As long as the supervisor gives an engine to come up: beside other lanes of tests it takes minutes.
SERVING_SECONDS = 600.0
# The generator is started twice.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def client(suite: Suite) -> Iterator[Trivium]:
    with suite.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def paused(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A paused job: what depends on it waits, and costs no training."""
    rows = tmp_path_factory.mktemp("paused") / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": f"paused-{uuid.uuid4().hex}", "completion": "kept"}) + "\n")
    with suite.client() as client:
        dataset = client.data.upload(rows, name=f"paused-{uuid.uuid4().hex[:8]}").dataset
        # If it has begun, it is paused at its next step: far from the last of a thousand.
        job = client.jobs.create(model=dataset, dataset=dataset, settings=TrainingSettings(epochs=1000)).job
        client.jobs.pause(job)
    yield job
    with suite.client() as client:
        client.jobs.cancel(job)


@pytest.mark.sampled(every=4)
@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_with_everything_that_it_acknowledged(
    suite: Suite, client: Trivium, paused: str, service: str, tmp_path: Path
) -> None:
    name = f"kill-{service}-{uuid.uuid4().hex[:8]}"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": name, "completion": "kept"}) + "\n")
    client.collections.create(name)
    client.docs.add_text(f"# Kept\n\nThe word is {name}.\n", collection=name, document="kept.md")
    dataset = client.data.upload(rows, name=name)
    # The trainer is killed with a job that may train already.
    before = [] if service == "trainer" else [paused]
    job = client.jobs.create(model=name, dataset=dataset.dataset, alias="", depends_on=before)
    key = client.keys.create(roles=["viewer"], display_name=name)
    file = client.files.upload(rows, purpose="user_data")
    protected = protect(suite, client, name) if service == "generator" else ""

    pid = suite.pid(service)
    kill(pid)
    if service == "generator":
        pid = kill_while_its_engine_starts(suite, pid)
    suite.wait_serving(service, timeout_seconds=SERVING_SECONDS, other_than=pid)

    for _, pending in client.docs.watch(name):
        if pending == 0:
            break
    (document,) = list(client.docs.list(name))
    assert document.state == "ready"
    assert name in client.docs.text("kept.md", collection=name).text
    assert client.data.get(name).digest == dataset.digest
    assert client.jobs.get(job.job).job == job.job
    with suppress(PreconditionError):  # unless it has ended by now
        client.jobs.cancel(job.job)
    assert key.key in {found.key for found in client.keys.list()}
    assert client.files.read(file.file) == rows.read_bytes()
    client.files.delete(file.file)
    answer = client.reply([Message("user", "Hello.")], sampling=Sampling(max_tokens=4))
    assert answer.version == ""
    client.collections.delete(name)
    if protected:
        eventually(lambda: is_protected(client, protected), "it is protected again, in a slot")
        client.models.protect(protected, protected=False)


def kill(pid: int) -> None:
    """End a process as a power cut would, and wait until all that it started is gone."""
    children = psutil.Process(pid).children(recursive=True)
    os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=ENDED_SECONDS)
    assert alive == [], "children outlived the process that owned them"


def kill_while_its_engine_starts(suite: Suite, before: int) -> int:
    """Kill the next generator when its engine has begun; its process id."""

    def started() -> int:
        with suppress(OSError, ValueError):
            pid = suite.pid("generator")
            return pid if pid != before and psutil.pid_exists(pid) else 0
        return 0

    pid: int = eventually(started, "the next generator listens")

    eventually(lambda: any(map(is_python, psutil.Process(pid).children(recursive=True))), "its engine begins")
    kill(pid)
    return pid


def is_python(process: psutil.Process) -> bool:
    """Whether a process, which may have ended, runs Python."""
    with suppress(psutil.NoSuchProcess):
        return process.name().startswith("python")
    return False


def protect(suite: Suite, client: Trivium, model: str) -> str:
    """Serve an adapter that stays in its slot; its version."""
    version = serve_adapter(suite, model, seed=33).version
    assert client.models.protect(version).pinned
    return version


def is_protected(client: Trivium, version: str) -> bool:
    """Whether a version is pinned in a slot."""
    return [(held.tier, held.pinned) for held in client.models.resident() if held.version == version] == [
        ("slot", True)
    ]
