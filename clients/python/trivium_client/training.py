"""Datasets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2
from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceStub

from trivium_client import nouns, training_wire
from trivium_client.transport import Transport, upload

if TYPE_CHECKING:
    from trivium.trainer.v1.dataset_pb2_grpc import DatasetServiceAsyncStub


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
        """Upload a JSON Lines file; an interrupted upload goes on where it stopped.

        Raises InvalidRequestError that names the lines which are wrong.
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
            media_type="application/jsonl",
            progress=progress,
        )
        return training_wire.dataset(response.dataset)

    async def get(self, dataset: str) -> nouns.Dataset:
        """One dataset by id or digest.  Raises NotFoundError."""
        request = dataset_pb2.GetDatasetRequest(dataset=dataset)
        response = await self._transport.call("trainer", self._stub().GetDataset, request)
        return training_wire.dataset(response.dataset)

    async def list(self) -> AsyncIterator[nouns.Dataset]:
        """Every dataset of the tenant, newest first."""
        request = dataset_pb2.ListDatasetsRequest()
        while True:
            page = await self._transport.call("trainer", self._stub().ListDatasets, request)
            for item in page.datasets:
                yield training_wire.dataset(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def validate(self, dataset: str, *, max_row_tokens: int = 0) -> Sequence[nouns.DatasetProblem]:
        """Everything that is wrong with a dataset, by line."""
        request = dataset_pb2.ValidateDatasetRequest(dataset=dataset, max_row_tokens=max_row_tokens)
        response = await self._transport.call("trainer", self._stub().ValidateDataset, request)
        return [training_wire.problem(item) for item in response.problems]

    async def delete(self, dataset: str) -> None:
        """Delete a dataset.  Raises PreconditionError while an unfinished job uses it."""
        request = dataset_pb2.DeleteDatasetRequest(dataset=dataset)
        await self._transport.call("trainer", self._stub().DeleteDataset, request)
