"""What people upload and what batches write, and the batches themselves.  As `nouns`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class File:
    """One file; `purpose` is fine-tune, batch, assistants, user_data, evals, batch_output or fine-tune-results."""

    file: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    create_time: datetime
    expire_time: datetime | None


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """Something wrong with a batch's input; `line` is counted from 1, 0 for the whole file."""

    line: int
    code: str
    param: str
    message: str


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch; `state` is validating, in_progress, finalizing, completed, failed, expired, cancelling or cancelled."""

    batch: str
    state: str
    endpoint: str
    total: int
    completed: int
    failed: int
    input_file: str
    output_file: str
    error_file: str
    prompt_tokens: int
    completion_tokens: int
    metadata: Mapping[str, str]
    problems: tuple[BatchProblem, ...]
    create_time: datetime
    expire_time: datetime
    end_time: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.end_time is not None
