"""Settings from the environment, checked before anything starts, printable without secrets.

Invariant: no code outside this module reads ``os.environ`` for settings, and no
``repr`` of a settings object shows a secret (a password inside a URL included).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# Where each service listens unless told otherwise; admin is +1000, metrics +2000.
PORTS = {
    "gateway": 50050,
    "access": 50051,
    "registry": 50052,
    "trainer": 50053,
    "embedder": 50054,
    "retriever": 50055,
    "generator": 50056,
    "files": 50057,
}

_SECRET_NAME = re.compile(r"secret|password|token|credential|(^|_)key$", re.IGNORECASE)
_URL_PASSWORD = re.compile(r"(://[^/:@\s]*):[^/@\s]*@")


def environment(service: str) -> SettingsConfigDict:
    """How a service's settings are read: from variables that begin with TRIVIUM_SERVICE_."""
    return SettingsConfigDict(
        env_prefix=f"TRIVIUM_{service.upper()}_",
        populate_by_name=True,
        extra="ignore",
        # ``None`` and empty variables of a compose file mean "not set", not "set to nothing".
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )


def _shared(variable: str) -> AliasChoices:
    return AliasChoices(variable)


class ServiceSettings(BaseSettings):
    """What every service has.  A subclass sets ``service`` and ``model_config = environment(service)``.

    Addresses are ``host:port``; port 0 takes a free one (the real ports stand in
    ``<data>/run/<service>.json``).
    """

    service: ClassVar[str] = ""
    model_config = environment("")

    listen: str = ""
    admin_listen: str = ""
    metrics_listen: str = ""
    database_url: SecretStr = SecretStr("")

    data_dir: Path = Field(default=Path("~/.local/share/trivium"), validation_alias=_shared("TRIVIUM_DATA_DIR"))
    service_key_file: Path | None = Field(default=None, validation_alias=_shared("TRIVIUM_SERVICE_KEY_FILE"))

    gateway_address: str = Field(default="127.0.0.1:50050", validation_alias=_shared("TRIVIUM_GATEWAY_ADDRESS"))
    access_address: str = Field(default="127.0.0.1:50051", validation_alias=_shared("TRIVIUM_ACCESS_ADDRESS"))
    registry_address: str = Field(default="127.0.0.1:50052", validation_alias=_shared("TRIVIUM_REGISTRY_ADDRESS"))
    trainer_address: str = Field(default="127.0.0.1:50053", validation_alias=_shared("TRIVIUM_TRAINER_ADDRESS"))
    embedder_address: str = Field(default="127.0.0.1:50054", validation_alias=_shared("TRIVIUM_EMBEDDER_ADDRESS"))
    retriever_address: str = Field(default="127.0.0.1:50055", validation_alias=_shared("TRIVIUM_RETRIEVER_ADDRESS"))
    generator_address: str = Field(default="127.0.0.1:50056", validation_alias=_shared("TRIVIUM_GENERATOR_ADDRESS"))
    files_address: str = Field(default="127.0.0.1:50057", validation_alias=_shared("TRIVIUM_FILES_ADDRESS"))

    tls_cert_file: Path | None = Field(default=None, validation_alias=_shared("TRIVIUM_TLS_CERT_FILE"))
    tls_key_file: Path | None = Field(default=None, validation_alias=_shared("TRIVIUM_TLS_KEY_FILE"))
    tls_ca_file: Path | None = Field(default=None, validation_alias=_shared("TRIVIUM_TLS_CA_FILE"))
    # The name in the peers' certificates where it is not the host they are dialled by.
    tls_peer_name: str = Field(default="", validation_alias=_shared("TRIVIUM_TLS_PEER_NAME"))

    otlp_endpoint: str = Field(default="", validation_alias=_shared("TRIVIUM_OTLP_ENDPOINT"))
    log_level: str = Field(default="INFO", validation_alias=_shared("TRIVIUM_LOG_LEVEL"))
    slow_call_seconds: float = Field(default=1.0, gt=0, validation_alias=_shared("TRIVIUM_SLOW_CALL_SECONDS"))

    # Between NOT_SERVING and refusing: how long load balancers need to notice.  0 on one machine.
    drain_notice_seconds: float = Field(default=0.0, ge=0, validation_alias=_shared("TRIVIUM_DRAIN_NOTICE_SECONDS"))
    # How long calls in flight may still run once draining has begun.
    drain_seconds: float = Field(default=20.0, ge=0, validation_alias=_shared("TRIVIUM_DRAIN_SECONDS"))

    max_calls: int = Field(default=512, ge=1)
    max_calls_per_tenant: int = Field(default=256, ge=1)
    max_streams_per_tenant: int = Field(default=64, ge=1)
    default_unary_seconds: float = Field(default=30.0, gt=0)
    max_unary_seconds: float = Field(default=300.0, gt=0)
    max_stream_seconds: float = Field(default=3600.0, gt=0)
    stream_idle_seconds: float = Field(default=60.0, gt=0)
    max_message_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    blocking_threads: int = Field(default=8, ge=1)
    # Peers get the caller's remaining time less this, so that our answer still fits.
    deadline_margin_seconds: float = Field(default=0.05, ge=0)
    key_cache_seconds: float = Field(default=60.0, ge=0, le=60)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Derive what depends on the service's name and on the data folder."""
        port = PORTS.get(self.service, 0)
        self.listen = self.listen or f"127.0.0.1:{port}"
        self.admin_listen = self.admin_listen or f"127.0.0.1:{port + 1000 if port else 0}"
        self.metrics_listen = self.metrics_listen or f"127.0.0.1:{port + 2000 if port else 0}"
        self.data_dir = self.data_dir.expanduser().absolute()
        if self.service_key_file is None:
            self.service_key_file = self.data_dir / "keys" / "service.key"
        if not self.database_url.get_secret_value():
            self.database_url = SecretStr(f"sqlite:///{self.service_dir / (self.service or 'state')}.db")
        given = [self.tls_cert_file, self.tls_key_file, self.tls_ca_file]
        if any(given) and not all(given):
            raise ValueError("mutual TLS needs all of TRIVIUM_TLS_CERT_FILE, _KEY_FILE and _CA_FILE")
        return self

    @property
    def service_dir(self) -> Path:
        """The folder that belongs to this service alone."""
        return self.data_dir / (self.service or "state")

    @property
    def run_file(self) -> Path:
        """Where the running service writes its process id and its real ports."""
        return self.data_dir / "run" / f"{self.service or 'state'}.json"

    def address(self, service: str) -> str:
        """Where peers find ``service`` (host:port)."""
        address: str = getattr(self, f"{service}_address")
        return address

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Redact by name and redact passwords in URLs, whatever type a subclass gave the field."""
        for name, value in super().__repr_args__():
            yield name, redact(name or "", value)


def redact(name: str, value: object) -> object:
    """``value`` as it may be printed or logged under ``name``."""
    if isinstance(value, SecretStr):
        return value
    if value not in (None, "") and _SECRET_NAME.search(name) and not isinstance(value, bool | int | float):
        return "**********"
    if isinstance(value, str):
        return _URL_PASSWORD.sub(r"\1:**********@", value)
    return value


def split_address(address: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` in its two parts (no host: every interface).  Raises ValueError on anything else."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not host:port")
    return host.strip("[]"), int(port)
