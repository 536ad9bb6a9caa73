"""Settings of files, from ``TRIVIUM_FILES_*``."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from services.chassis.config import ServiceSettings, environment


class FilesSettings(ServiceSettings):
    """What files needs beyond what every service has."""

    service: ClassVar[str] = "files"
    model_config = environment("files")

    # s3://bucket/prefix, with the credentials in the AWS variables; empty keeps blobs in the data folder.
    blobs_url: str = ""
    max_file_bytes: int = Field(default=512 * 1024**2, ge=1)
    # What a tenant may keep, of files and of responses; what has expired counts until the next sweep.
    max_files_per_tenant: int = Field(default=100_000, ge=1)
    max_file_bytes_per_tenant: int = Field(default=100 * 1024**3, ge=1)
    max_response_bytes_per_tenant: int = Field(default=4 * 1024**3, ge=1)
    # How often what has expired is removed, and how long a blob without a row is kept.
    sweep_seconds: float = Field(default=900.0, gt=0)
    unused_blob_seconds: float = Field(default=24 * 3600.0, gt=0)
    # Where the gateway serves HTTP: batches ask there.  Off this machine it must be https.
    gateway_url: str = "http://127.0.0.1:8080"
    # Whose word on its certificate is taken, in PEM; unset, that of the public authorities.
    gateway_ca_file: Path | None = None
    # Requests of all batches together that are asked at a time; live traffic has what they leave.
    batch_requests_at_once: int = Field(default=2, ge=1)
    batches_at_once: int = Field(default=8, ge=1)
    batches_at_once_per_tenant: int = Field(default=2, ge=1)
    max_unended_batches_per_tenant: int = Field(default=100, ge=1)
    # A replica that dies is held to be at its batches for so long; its own restart takes them up at once.
    batch_lease_seconds: float = Field(default=30.0, gt=0)
    batch_look_seconds: float = Field(default=1.0, gt=0)
