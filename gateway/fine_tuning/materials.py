"""From a file of the tenant's to a dataset of the trainer's.

Invariant: a dataset is named by the digest of the file's bytes, so a file is sent once however many jobs learn from it,
and deleting the file takes nothing from them.
"""

from typing import Any

from gateway.fine_tuning.training import Datasets, Files
from services.chassis.errors import Failure, Reason

# What the trainer says of a file's content.
_OF_CONTENT = frozenset({Reason.DATASET_MALFORMED, Reason.DATASET_UNCHECKED, Reason.DATASET_TOO_LARGE})


class Materials:
    """Imports files."""

    def __init__(self, files: Files, datasets: Datasets) -> None:
        self._files = files
        self._datasets = datasets

    async def dataset(self, file: str, field: str) -> str:
        """The dataset (sha256:…) with the bytes of ``file``, which the request calls ``field``.

        Raises FILE_NOT_FOUND, FIELD_INVALID for a file of another purpose, and what the trainer refuses rows with.
        """
        found = await self._files.describe(file)
        if not found.trainable:
            problem = f"{file} is not of the purpose fine-tune; upload it with purpose='fine-tune'"
            raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)
        digest = f"sha256:{found.sha256}"
        if not await self._datasets.has(digest):
            try:
                content = self._files.read(file)
                await self._datasets.take(found.filename, found.size_bytes, found.sha256, content)
            except Failure as failure:
                if failure.reason not in _OF_CONTENT:
                    raise
                raise _of_field(failure, field) from failure
        return digest


def _of_field(failure: Failure, field: str) -> Failure:
    """The same failure, as one of the request's field: which lines are bad stands behind it."""
    variables: dict[str, Any] = {name: value for name, value in failure.variables.items() if name != "field"}
    return Failure(failure.reason, field=field, violations=failure.violations, **variables)
