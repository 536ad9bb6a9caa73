"""Where the services are and who is calling: arguments first, then the environment, then what a local suite wrote down.

Invariant: a key is never printed; `repr` of a connection shows where, not with what.
"""

import importlib.resources
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

_PORTS = {
    "gateway": 50050,
    "access": 50051,
    "registry": 50052,
    "trainer": 50053,
    "embedder": 50054,
    "retriever": 50055,
    "generator": 50056,
    "files": 50057,
}


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses (service name to host:port), the API key, certificates where TLS is on, and a local suite's folder.

    The services ask whoever connects for a certificate, as they have one themselves.
    """

    addresses: Mapping[str, str]
    api_key: str = field(repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    data_dir: Path | None = None

    @staticmethod
    def settled(
        addresses: Mapping[str, str] | None = None,
        api_key: str | None = None,
        data_dir: str | Path | None = None,
    ) -> "Connection":
        """Fill in what was not given.

        Addresses: TRIVIUM_SERVICE_ADDRESS, else the run files of the suite under the data
        folder, else the default ports.  Key: TRIVIUM_API_KEY, else the file that
        TRIVIUM_API_KEY_FILE names, else keys/admin.key of the data folder; empty when none
        of them is there, and every call will then say that a credential is missing.
        Certificates: TRIVIUM_TLS_CA_FILE, TRIVIUM_TLS_CERT_FILE and TRIVIUM_TLS_KEY_FILE, as the services have them.
        Raises ValueError where the last two are not set together, or without the first.
        """
        folder = Path(data_dir or os.environ.get("TRIVIUM_DATA_DIR") or "~/.local/share/trivium").expanduser()
        found = {
            service: os.environ.get(f"TRIVIUM_{service.upper()}_ADDRESS")
            or _running_at(folder, service)
            or f"127.0.0.1:{port}"
            for service, port in _PORTS.items()
        }
        ca_file, cert_file, key_file = (_file(f"TRIVIUM_TLS_{name}_FILE") for name in ("CA", "CERT", "KEY"))
        if (cert_file is None) != (key_file is None) or (cert_file is not None and ca_file is None):
            raise ValueError("set TRIVIUM_TLS_CA_FILE, TRIVIUM_TLS_CERT_FILE and TRIVIUM_TLS_KEY_FILE together")
        return Connection(
            addresses={**found, **(addresses or {})},
            api_key=api_key if api_key is not None else _key(folder),
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            data_dir=folder,
        )

    def kept_by_a_suite(self, service: str) -> bool:
        """Whether a suite that runs on this machine keeps the service at our address, and so brings it back."""
        if self.data_dir is None:
            return False
        try:
            suite = json.loads((self.data_dir / "run" / "suite.json").read_text())
            kept = suite["state"] in ("starting", "ready")
            return kept and suite["services"][service]["listen"] == self.addresses[service] and _lives(suite["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def open(self, service: str) -> grpc.aio.Channel:
        """A channel to `service` with the deadlines and retries of the shipped service config."""
        target = f"dns:///{self.addresses[service]}"
        if self.ca_file is None:
            return grpc.aio.insecure_channel(target, options=_options())
        key, certificate = (file.read_bytes() if file else None for file in (self.key_file, self.cert_file))
        credentials = grpc.ssl_channel_credentials(self.ca_file.read_bytes(), key, certificate)
        return grpc.aio.secure_channel(target, credentials, options=_options())

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The credential as call metadata."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()


def _options() -> list[tuple[str, Any]]:
    config = (importlib.resources.files("trivium") / "service_config.json").read_text()
    return [
        ("grpc.service_config", config),
        ("grpc.enable_retries", 1),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_receive_message_length", 4 * 1024 * 1024),
        # A suite that restarts is found again within the shortest retries of the service config (0.4 s at least), not
        # after gRPC's two minutes; "min" is how long one attempt to connect may take.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 250),
        ("grpc.min_reconnect_backoff_ms", 2_000),
    ]


def _file(variable: str) -> Path | None:
    path = os.environ.get(variable)
    return Path(path).expanduser() if path else None


def _running_at(folder: Path, service: str) -> str:
    try:
        return str(json.loads((folder / "run" / f"{service}.json").read_text())["listen"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return True


def _key(folder: Path) -> str:
    if key := os.environ.get("TRIVIUM_API_KEY", "").strip():
        return key
    file = Path(os.environ.get("TRIVIUM_API_KEY_FILE") or folder / "keys" / "admin.key").expanduser()
    try:
        return file.read_text().strip()
    except OSError:
        return ""
