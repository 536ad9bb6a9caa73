"""Datasets and what is wrong with them.  As `nouns`."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    """One immutable dataset; tokens are counted under the default base's chat template."""

    dataset: str
    digest: str
    filename: str
    format: str
    rows: int
    size_bytes: int
    tokens: int
    supervised_tokens: int
    max_row_tokens: int
    create_time: datetime | None


@dataclass(frozen=True, slots=True)
class DatasetProblem:
    """Something wrong with one line (from 1) of a dataset."""

    line: int
    field: str
    message: str
    fatal: bool
