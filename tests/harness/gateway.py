"""The gateway as a separate process: every test that starts one starts it here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.stack import Process, peer_settings

# An address at which nothing listens: the discard port of this machine.
NOBODY = "127.0.0.1:9"
# What gives access as long as a stalled machine needs.
PATIENT = "tests.harness.patient_gateway"
_PEERS = ("EMBEDDER", "FILES", "GENERATOR", "REGISTRY", "RETRIEVER", "TRAINER")


class Gateway(Process):
    """``python -m gateway`` on ports of the system's choice, in a deployment where access runs.

    No other peer of it runs unless ``environment`` names its address.
    """

    def __init__(
        self, data: Path, access: Process, environment: Mapping[str, str] | None = None, *, prelude: str = ""
    ) -> None:
        settings = {
            **{f"TRIVIUM_{peer}_ADDRESS": NOBODY for peer in _PEERS},
            **peer_settings(access),
            "TRIVIUM_GATEWAY_HTTP_LISTEN": "127.0.0.1:0",
            **(environment or {}),
        }
        super().__init__("gateway", data, settings, prelude=prelude)

    def start(self) -> Gateway:
        """Start it and wait until it listens."""
        self.data.mkdir(parents=True, exist_ok=True)
        super().start()
        return self

    @property
    def http(self) -> str:
        """Where it serves HTTP."""
        return f"http://{json.loads(self.run_file.read_text())['http_listen']}"
