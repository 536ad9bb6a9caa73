"""Settings of the adapter-registry, from ``TRIVIUM_REGISTRY_*``."""

from typing import ClassVar

from pydantic import Field

from services.chassis.config import ServiceSettings, environment


class RegistrySettings(ServiceSettings):
    """What the registry needs beyond what every service has."""

    service: ClassVar[str] = "registry"
    model_config = environment("registry")

    # s3://bucket/prefix, with the credentials in the AWS variables; empty keeps blobs in the data folder.
    # Give the bucket a rule that aborts incomplete multipart uploads: parts of a killed process are not listed.
    blobs_url: str = ""
    # Bases whose adapters are accepted, by URI (wheel:, file:, hf:) or digest (sha256:…), with commas
    # between; empty means the deployment's default base.
    bases: str = ""
    # Living generators that must hold a target before it serves.
    min_ready: int = Field(default=1, ge=1)
    # A generator that has been silent for longer no longer counts.
    generator_ttl_seconds: float = Field(default=60.0, gt=0)
    # A watch with nothing to say says so this often.
    sign_of_life_seconds: float = Field(default=15.0, gt=0)
    max_blob_bytes: int = Field(default=64 * 1024**3, ge=1)
    # What the files of one tenant that are being uploaded or were left unfinished may take on this process's disk, each
    # that is under way by its whole announced size.  Less than max_blob_bytes is then the most of one uploaded file.
    max_staged_bytes_per_tenant: int = Field(default=128 * 1024**3, ge=1)
    # Folders of this machine below which `file:` imports of every tenant may read, with commas between; none opens none.
    import_folders: str = ""
    # Whether `hf:` imports may be asked for: this service then downloads what callers name.
    import_hub: bool = True
    # How long a call waits for long work (a merge, an import, the check of a large model) before it says how far it is.
    patience_seconds: float = Field(default=8.0, gt=0)
    # A replica that does long work and dies is held to be at it for so long; it tells the others three times meanwhile.
    lease_seconds: float = Field(default=30.0, gt=0)
    inspect_seconds: float = Field(default=120.0, gt=0)
    # How long an upload that no version references, or a blob without a row, is kept; how often that is looked at.
    unused_upload_seconds: float = Field(default=24 * 3600.0, gt=0)
    sweep_seconds: float = Field(default=3600.0, gt=0)
    # How long a deleted version or model can be restored.
    deletion_grace_seconds: float = Field(default=7 * 24 * 3600.0, ge=0)
    # Events that a watch can still begin from: at most so many, and none that is older.
    keep_events: int = Field(default=100_000, ge=1)
    keep_events_seconds: float = Field(default=30 * 24 * 3600.0, gt=0)
