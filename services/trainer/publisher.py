"""What becomes of a trained adapter: a version, made by somebody else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from services.chassis.errors import Failure
from services.trainer.job import Job


class PublishRefused(Exception):
    """The registry will never take this result: its reason and sentence, and the failure that a caller is told."""

    def __init__(self, reason: str, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.reason = reason
        self.failure = failure


class PublishPostponed(Exception):
    """The registry cannot take it now; trying again later is safe."""


class Publisher(Protocol):
    """Makes a version of a job's result."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        """Return the version's id (sha256:…), the same however often it is called with the same.

        `lineage`, fit for JSON, is kept with the version beside the job's settings; `mark` tells it from other versions
        that are made of the job, empty for its result.

        Raises PublishRefused and PublishPostponed.
        """
        ...
