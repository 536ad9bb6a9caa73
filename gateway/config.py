"""Settings of the gateway."""

from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from services.chassis.config import ServiceSettings, environment


class GatewaySettings(ServiceSettings):
    """What the gateway has beyond every service: its HTTP listener."""

    service: ClassVar[str] = "gateway"
    model_config = environment("gateway")

    http_listen: str = "127.0.0.1:8080"
    http_tls_cert_file: Path | None = None
    http_tls_key_file: Path | None = None
    # The operator's word that a proxy before the HTTP listener ends TLS.
    http_tls_ended_before: bool = False

    # Generations, embeddings and searches at once, shared by weight between tenants when there are more: see
    # gateway.limits.fair_share.
    generation_places: int = Field(default=256, ge=1)

    # Of several generators a second one is asked once a first message takes longer than this part of them took lately, but
    # never before the floor: 0 turns it off.  No more than the share of all requests are.
    hedge_quantile: float = Field(default=0.95, ge=0, lt=1)
    hedge_floor_seconds: float = Field(default=0.1, ge=0)
    hedge_share: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.http_tls_cert_file is None) != (self.http_tls_key_file is None):
            raise ValueError("HTTPS needs both TRIVIUM_GATEWAY_HTTP_TLS_CERT_FILE and _KEY_FILE")
        return self
