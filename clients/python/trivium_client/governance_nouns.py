"""What is decided over versions and how they hang together: gates, searches, families.  As `nouns`."""

from dataclasses import dataclass
from datetime import datetime

from trivium_client.nouns import Version


@dataclass(frozen=True, slots=True)
class ForgettingBound:
    """How much of another metric a version may lose against the one that serves; `direction` is higher or lower."""

    metric: str
    most_loss: float
    dataset_digest: str = ""
    direction: str = "higher"


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition that a version must meet before an alias takes it.

    `direction` says which values are better, higher or lower; None asks for nothing; an empty `alias` guards all of
    the model's, an empty `dataset_digest` means whatever the version was last measured on.
    """

    gate: str
    metric: str
    direction: str = "higher"
    dataset_digest: str = ""
    alias: str = ""
    required_value: float | None = None
    least_improvement: float | None = None
    forgetting: ForgettingBound | None = None
    checks_rollbacks: bool = False
    principal: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version that a search found, and the value of the metric that was asked for."""

    version: Version
    value: float | None


@dataclass(frozen=True, slots=True)
class Relative:
    """A version `depth` steps away, reached over `via`: the parent or child on the way to it."""

    version: Version
    via: str
    depth: int


@dataclass(frozen=True, slots=True)
class Family:
    """A version (first of the chain of first parents) with all that it was made from and all that was made from it."""

    chain: tuple[Version, ...]
    ancestors: tuple[Relative, ...]
    descendants: tuple[Relative, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class ModelChange:
    """A deletion, a restoration or a purge; `kind` is version_deleted, version_restored, version_purged or model_….

    `version` is empty and `version_number` 0 where the model itself is meant; `principal` is empty when the registry
    did it by itself.  `reason` is what whoever asked said, `detail` the registry's own word.
    """

    number: int
    kind: str
    version: str
    version_number: int
    principal: str
    create_time: datetime | None
    reason: str = ""
    detail: str = ""
