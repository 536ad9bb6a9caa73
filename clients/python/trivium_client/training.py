"""Datasets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2
from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceStub

from trivium_client import nouns, settings_wire, training_wire
from trivium_client.transport import Transport, upload

if TYPE_CHECKING:
    from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceAsyncStub


_MEDIA_TYPES = {".csv": "text/csv", ".tsv": "text/csv", ".parquet": "application/vnd.apache.parquet"}
# Most rows of one call.
_PREVIEW_ROWS = 100


class Datasets:
    """Immutable datasets, checked row by row before they are stored."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> DatasetServiceAsyncStub:
        stub: DatasetServiceAsyncStub = self._transport.stub("trainer", DatasetServiceStub)
        return stub

    async def upload(
        self, path: str | Path, *, name: str = "", progress: Callable[[int, int], None] | None = None
    ) -> nouns.Dataset:
        """Upload a JSON Lines, CSV or Parquet file; an interrupted upload goes on where it stopped.

        Other bytes under a name are its next version.  `warnings` of the answer are of the first rows that the default
        base cannot be trained on.  Raises InvalidRequestError that names the first lines which are wrong; `problems` has
        all of both, by the file's digest.
        """

        async def committed(sha256: str) -> int:
            request = dataset_pb2.GetDatasetUploadRequest(sha256=sha256)
            response = await self._transport.call("trainer", self._stub().GetDatasetUpload, request)
            return response.status.committed_bytes

        def frame(part: transfer_pb2.UploadHeader | transfer_pb2.Chunk) -> dataset_pb2.UploadDatasetRequest:
            if isinstance(part, transfer_pb2.Chunk):
                return dataset_pb2.UploadDatasetRequest(chunk=part)
            return dataset_pb2.UploadDatasetRequest(header=dataset_pb2.DatasetHeader(upload=part, dataset=name))

        response = await upload(
            self._transport,
            "trainer",
            Path(path),
            send=self._stub().UploadDataset,
            committed=committed,
            frame=frame,
            media_type=_MEDIA_TYPES.get(Path(path).suffix.lower(), "application/jsonl"),
            progress=progress,
        )
        return training_wire.dataset(response.dataset, response.warnings)

    async def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by name (the newest version), name@version or digest.  Raises NotFoundError."""
        request = dataset_pb2.GetDatasetRequest(dataset=dataset)
        response = await self._transport.call("trainer", self._stub().GetDataset, request)
        return training_wire.dataset(response.dataset)

    async def list(self) -> AsyncIterator[nouns.Dataset]:
        """Every version of the tenant's datasets, newest first."""
        request = dataset_pb2.ListDatasetsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListDatasets, request)
            for item in page.datasets:
                yield training_wire.dataset(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def validate(
        self,
        dataset: str,
        *,
        max_row_tokens: int = 0,
        base: str = "",
        settings: nouns.TrainingSettings | None = None,
        validation_dataset: str = "",
        recipe: str = "",
    ) -> nouns.DatasetCheck:
        """What a job with these settings would make of a dataset, and everything that is wrong with it."""
        request = dataset_pb2.ValidateDatasetRequest(
            dataset=dataset,
            max_row_tokens=max_row_tokens,
            base=base,
            settings=settings_wire.settings_to_wire(settings or nouns.TrainingSettings()),
            validation_dataset=validation_dataset,
            recipe=recipe,
        )
        response = await self._transport.call("trainer", self._stub().ValidateDataset, request)
        return training_wire.check(response)

    async def problems(self, dataset: str) -> AsyncIterator[nouns.DatasetProblem]:
        """All that the newest check said of a dataset's lines; of a file that was refused, by its digest, for a day.

        Raises NotFoundError when no check is kept.
        """
        request = dataset_pb2.ListDatasetProblemsRequest(dataset=dataset, page_size=1000)
        while True:
            page = await self._transport.call("trainer", self._stub().ListDatasetProblems, request)
            for item in page.problems:
                yield training_wire.problem(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def preview(
        self,
        dataset: str,
        *,
        offset: int = 0,
        rows: int = 5,
        base: str = "",
        settings: nouns.TrainingSettings | None = None,
        recipe: str = "",
    ) -> Sequence[nouns.PreviewRow]:
        """Rows from `offset` (from 0) on as they are trained on, token by token; one row may be several examples."""
        found: list[nouns.PreviewRow] = []
        end = offset + rows
        while True:
            request = dataset_pb2.PreviewDatasetRequest(
                dataset=dataset,
                offset=offset,
                rows=min(end - offset, _PREVIEW_ROWS),
                base=base,
                settings=settings_wire.settings_to_wire(settings or nouns.TrainingSettings()),
                recipe=recipe,
            )
            response = await self._transport.call("trainer", self._stub().PreviewDataset, request)
            found += [training_wire.preview_row(row) for row in response.rows]
            offset = response.next_offset
            if not offset or offset >= end:
                return found

    async def delete(self, dataset: str) -> None:
        """Delete a version (of a name alone the newest).  Raises PreconditionError while an unfinished job uses it."""
        request = dataset_pb2.DeleteDatasetRequest(dataset=dataset)
        await self._transport.call("trainer", self._stub().DeleteDataset, request)
