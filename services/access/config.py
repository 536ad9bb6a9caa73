"""Settings of access, from ``TRIVIUM_ACCESS_*``."""

from typing import ClassVar, Self

from pydantic import Field, model_validator

from services.access.issuers import Issuer
from services.chassis.config import ServiceSettings, environment
from services.chassis.credentials import MAX_LIFETIME_SECONDS


class AccessSettings(ServiceSettings):
    """What access needs beyond what every service has."""

    service: ClassVar[str] = "access"
    model_config = environment("access")

    # Life of an assertion.  Services renew theirs with two minutes left.
    assertion_seconds: int = Field(default=600, ge=180, le=MAX_LIFETIME_SECONDS)
    # A signing key is replaced when it is this old; the one before it verifies for as long again.
    signing_key_days: float = Field(default=30.0, gt=0)
    # The tenant that the first start creates, and whose first key it writes.
    first_tenant: str = Field(default="default", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    # Issuers whose OIDC tokens are taken beside keys: a JSON list of objects with the fields of Issuer.
    oidc_issuers: list[Issuer] = Field(default_factory=list)

    @model_validator(mode="after")
    def _issuers_differ(self) -> Self:
        named = [issuer.issuer for issuer in self.oidc_issuers]
        if len(named) != len(set(named)):
            raise ValueError("TRIVIUM_ACCESS_OIDC_ISSUERS names an issuer twice")
        return self
