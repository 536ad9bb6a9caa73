"""kill -9 of any one process while the suite serves: it comes back, and nothing acknowledged is gone.

Promise 1.  The suite is the shared one: after each kill it must be whole again.
"""

import json
import os
import signal
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from trivium_client import PreconditionError
from trivium_client.answers import Message, Sampling

from services.ops.supervisor import Suite

SERVICES = ("access", "registry", "trainer", "embedder", "retriever", "files", "gateway", "generator")


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back_with_everything_that_it_acknowledged(
    suite: Suite, service: str, tmp_path: Path
) -> None:
    name = f"kill-{service}-{uuid.uuid4().hex[:8]}"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": name, "completion": "kept"}) + "\n")
    with suite.client() as client:
        client.collections.create(name)
        client.docs.add_text(f"# Kept\n\nThe word is {name}.\n", collection=name, document="kept.md")
        dataset = client.data.upload(rows, name=name)
        job = client.jobs.create(model=name, dataset=name, alias="")
        key = client.keys.create(roles=["viewer"], display_name=name)
        file = client.files.upload(rows, purpose="user_data")

        pid = suite.pid(service)
        children = psutil.Process(pid).children(recursive=True)
        os.kill(pid, signal.SIGKILL)
        suite.wait_serving(service, timeout_seconds=150, other_than=pid)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == [], "children outlived the process that owned them"

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
