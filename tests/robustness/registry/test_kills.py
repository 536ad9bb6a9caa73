"""Promises 1 and 2 under SIGKILL: what access and the registry acknowledged is there afterwards, once."""

import contextlib
import random
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2
from trivium.common.v1 import receipt_pb2
from trivium.registry.v1 import model_pb2
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.adapters import Adapter, digest, noise
from tests.stack import CHUNK_BYTES, Stack, User, download, eventually, refused, upload

KILLS = 3
SEED = 20261125


@pytest.fixture
def killed(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A registry that a test may kill; it comes back on the same port."""
    running = Stack(tmp_path / "killed", beside=stack)
    running.registry.keep_port()
    yield running
    running.close()


class History:
    """What one client was told, and what it does not know."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.acknowledged: list[tuple[model_pb2.Version, model_pb2.Version, str]] = []
        self.targets: dict[str, str] = {}
        self.unknown = 0

    def run(self, stop: threading.Event, first: threading.Event) -> None:
        """Publish and move aliases until told to stop; every request is repeated until it is answered."""
        while not stop.is_set():
            files = Adapter(salt=float(len(self.acknowledged) + 1)).files()
            request_id = str(uuid.uuid4())
            draft = self.user.draft("m", files)
            version = self._insist(
                lambda files=files, draft=draft, request_id=request_id: self._publish(files, draft, request_id)
            )
            self.acknowledged.append((version, draft, request_id))
            self._insist(lambda version=version: self.user.point("m", version.version))
            self.targets["prod"] = version.version
            first.set()

    def _publish(self, files: dict[str, bytes], draft: model_pb2.Version, request_id: str) -> Any:
        for name, content in files.items():
            self.user.upload(name, content)
        return self.user.create(draft, request_id)

    def _insist(self, act):
        while True:
            try:
                return act()
            except grpc.RpcError as error:
                failure = from_rpc_error(error)
                assert failure.reason in {"", "DRAINING", "UPLOAD_IN_PROGRESS", "PEER_UNAVAILABLE"}, failure
                self.unknown += 1


def test_acknowledged_versions_and_aliases_survive_kills_under_load(killed: Stack):
    source = random.Random(SEED)
    history = History(killed.newcomer())
    stop = threading.Event()
    for _ in range(KILLS):
        progress = threading.Event()
        stop.clear()
        writer = threading.Thread(target=history.run, args=(stop, progress))
        writer.start()
        assert progress.wait(120)
        threading.Event().wait(source.uniform(0, 0.3))
        killed.restart(killed.registry)
        stop.set()
        writer.join(120)
        assert not writer.is_alive()
        _verify(history)
    # The harness saw faults at all: otherwise it proves nothing.
    assert history.unknown, f"no call was hit by a kill (seed {SEED})"


def _verify(history: History) -> None:
    user = history.user
    for version, draft, request_id in history.acknowledged:
        read = user.api.GetVersion(pb.GetVersionRequest(version=version.version)).version
        assert read == version
        for file in read.files:
            assert digest(download(user.api, file.sha256)) == file.sha256
        # A repeat after the crash is answered with the same version.
        assert user.create(draft, request_id) == version
    numbers = [
        item.number for item in user.api.ListVersions(pb.ListVersionsRequest(model="m", page_size=1000)).versions
    ]
    assert numbers == list(range(len(history.acknowledged), 0, -1))
    assert user.alias("m").target_version == history.targets["prod"]
    sequences = [event.sequence for event in user.events_so_far()]
    assert sequences == list(range(1, len(sequences) + 1))


def test_an_upload_resumes_over_a_kill(killed: Stack):
    user = killed.newcomer()
    content = noise(6 * CHUNK_BYTES)
    wait = threading.Event()

    def half():
        messages = list(upload("weights.safetensors", content))
        yield from messages[:4]
        wait.wait(120)

    call = user.api.stub.UploadBlob.future(half(), metadata=user.api.metadata, timeout=120)

    def committed() -> int:
        return int(user.api.GetUpload(pb.GetUploadRequest(sha256=digest(content))).status.committed_bytes)

    eventually(lambda: committed() > 0, "the first chunk is on disk", 30)
    killed.registry.kill()
    wait.set()
    with pytest.raises(grpc.RpcError):
        call.result()
    killed.restart(killed.registry)
    resume = committed()
    assert 0 < resume < len(content)
    assert user.upload("weights.safetensors", content, resume=resume).complete
    killed.restart(killed.registry)
    assert download(user.api, digest(content)) == content


def test_a_watch_misses_nothing_over_a_kill(killed: Stack):
    user = killed.newcomer()
    versions = [user.publish("m").version for _ in range(2)]
    seen = [event.sequence for event in user.events_so_far()]
    for round_number in range(2):
        stream = user.watch(seen[-1])
        user.point("m", versions[round_number])
        with contextlib.suppress(grpc.RpcError):
            for message in stream:
                if message.HasField("event"):
                    seen.append(message.event.sequence)
                    killed.registry.kill()
        killed.restart(killed.registry)
        user.point("m", versions[round_number], alias="other")
        seen += [event.sequence for event in user.events_so_far(seen[-1])]
    assert seen == list(range(1, 7))


def test_keys_usage_and_revocations_survive_a_kill_of_access(tmp_path: Path):
    stack = Stack(tmp_path)
    stack.access.keep_port()
    try:
        _kill_access(stack)
    finally:
        stack.close()


def _kill_access(stack: Stack) -> None:
    admin = stack.access_api(stack.key("admin"))
    tenant = stack.tenant()
    kept, revoked = stack.tenant_key(tenant), stack.tenant_key(tenant)
    admin.RevokeKey(access_pb2.RevokeKeyRequest(key=revoked.split("_")[1]))
    receipt = receipt_pb2.Receipt(request_id="r", base_digest="sha256:b")
    record = access_pb2.UsageRecord(tenant=tenant, principal="somebody", receipt=receipt)
    stack.access_api(stack.key("service")).RecordUsage(access_pb2.RecordUsageRequest(record=record))
    assertion = admin.ExchangeKey(access_pb2.ExchangeKeyRequest(api_key=kept)).assertion.token
    before = (stack.key("admin"), stack.key("service"))
    stack.restart(stack.access)
    assert (stack.key("admin"), stack.key("service")) == before
    for credential in (kept, assertion):
        found = stack.access_api(credential).GetReceipt(access_pb2.GetReceiptRequest(request_id="r")).receipt
        assert found == receipt
    with refused("CREDENTIAL_INVALID"):
        stack.access_api(revoked).WhoAmI(access_pb2.WhoAmIRequest())
