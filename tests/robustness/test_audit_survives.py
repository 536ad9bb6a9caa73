"""What a registry acknowledged is in the audit log once, though it is killed before it told anybody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trivium.access.v1 import access_pb2
from trivium.registry.v1 import registry_pb2 as pb

from tests.stack import Stack, eventually

CHANGES = 5


@pytest.fixture
def killed(stack: Stack, tmp_path: Path) -> Iterator[Stack]:
    """A registry that a test may kill; it comes back on the same port."""
    key = {"TRIVIUM_SERVICE_KEY_FILE": str(stack.data / "keys" / "service.key")}
    running = Stack(tmp_path / "killed", key, beside=stack)
    running.registry.keep_port()
    yield running
    running.close()


def test_killed_between_its_answer_and_access_no_event_is_lost_or_doubled(killed: Stack):
    tenant = killed.tenant()
    credential = killed.tenant_key(tenant)
    owner, registry = killed.access_api(credential), killed.registry_api(credential)

    def listed() -> list[Any]:
        request = access_pb2.ListAuditEventsRequest(action_prefix="model.", page_size=1000)
        return [event.resource for event in reversed(owner.ListAuditEvents(request).events)]

    wanted: list[str] = []
    for life in range(2):
        for number in range(CHANGES):
            registry.CreateModel(pb.CreateModelRequest(model=f"m{life}-{number}"))
            wanted.append(f"models/m{life}-{number}")
        killed.restart(killed.registry)
    eventually(lambda: len(listed()) >= len(wanted), "what both lives left is told", 30)
    assert listed() == wanted
    assert owner.VerifyAudit(access_pb2.VerifyAuditRequest()).intact
    folder = killed.data / "registry" / "audit"
    eventually(lambda: not list(folder.iterdir()), "what was told is gone from the disk", 30)
