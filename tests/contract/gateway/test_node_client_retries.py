"""OpenAI's client for Node comes again by itself when the gateway says so, and not sooner than it says."""

from pathlib import Path

from tests.front import Front, Visitor
from tests.node_flows import NodeFlows


def test_it_comes_again_after_the_seconds_that_it_was_told(front: Front, visitor: Visitor, tmp_path: Path) -> None:
    told = NodeFlows(tmp_path, front.http, visitor.key)("retries")
    assert (told["class"], told["status"], told["code"]) == ("InternalServerError", 503, "peer_unavailable")
    assert told["requestID"]
    first, second = told["asked"]
    assert (first["status"], first["retryAfter"], second["status"]) == (503, "1", 503)
    assert second["begun"] - first["ended"] >= 1000  # milliseconds
