"""The trainer and the service of files over a real wire: what is sent, what is read back, and what a broken file ends in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from trivium.files.v1 import file_pb2, file_pb2_grpc
from trivium.trainer.v1 import dataset_pb2, dataset_pb2_grpc, training_pb2, training_pb2_grpc

from gateway.fine_tuning.training import Order, State, StoredFile
from gateway.peers.trainer import RemoteDatasets, RemoteTrainer
from gateway.peers.training_files import RemoteTrainingFiles
from services.chassis.errors import Failure, Reason

SHA = "a" * 64


class Datasets(dataset_pb2_grpc.DatasetServiceServicer):
    """Takes what comes and keeps it."""

    def __init__(self) -> None:
        self.heard: list[dataset_pb2.UploadDatasetRequest] = []

    async def UploadDataset(self, requests: Any, context: Any) -> dataset_pb2.UploadDatasetResponse:
        async for request in requests:
            self.heard.append(request)
        return dataset_pb2.UploadDatasetResponse()


class Training(training_pb2_grpc.TrainingServiceServicer):
    """Says back the job that is ordered."""

    async def CreateJob(self, request: training_pb2.CreateJobRequest, context: Any) -> training_pb2.CreateJobResponse:
        job = training_pb2.Job(
            job="j1", state=training_pb2.JOB_STATE_QUEUED, model=request.model, settings=request.settings
        )
        job.labels.update(request.labels)
        job.create_time.FromSeconds(100)
        return training_pb2.CreateJobResponse(job=job)


class Files(file_pb2_grpc.FileServiceServicer):
    """One file in two pieces, and one result."""

    def __init__(self) -> None:
        self.stored = b""

    async def GetFile(self, request: file_pb2.GetFileRequest, context: Any) -> file_pb2.GetFileResponse:
        file = file_pb2.File(file=request.file, filename="a", purpose=file_pb2.PURPOSE_BATCH, size_bytes=2, sha256=SHA)
        return file_pb2.GetFileResponse(file=file)

    async def ReadFile(
        self, request: file_pb2.ReadFileRequest, context: Any
    ) -> AsyncIterator[file_pb2.ReadFileResponse]:
        for data in (b"a", b"b"):
            response = file_pb2.ReadFileResponse()
            response.chunk.data = data
            yield response

    async def CreateFile(self, requests: Any, context: Any) -> file_pb2.CreateFileResponse:
        heard = [request async for request in requests]
        assert heard[0].header.purpose == file_pb2.PURPOSE_FINE_TUNE_RESULTS
        self.stored = b"".join(request.chunk.data for request in heard[1:-1])
        assert heard[-1].end.size_bytes == len(self.stored)
        return file_pb2.CreateFileResponse(file=file_pb2.File(file="file-r"))


@asynccontextmanager
async def served(add: Any, servicer: Any) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def content(*pieces: bytes, ends: Failure | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if ends is not None:
        raise ends


async def test_a_file_is_sent_piece_by_piece_behind_its_length_and_digest() -> None:
    servicer = Datasets()
    async with served(dataset_pb2_grpc.add_DatasetServiceServicer_to_server, servicer) as channel:
        await RemoteDatasets(channel).take("rows.jsonl", 3, SHA, content(b"ab", b"c"))
    header, *chunks = servicer.heard
    assert (header.header.upload.filename, header.header.upload.size_bytes) == ("rows.jsonl", 3)
    assert [(part.chunk.offset_bytes, part.chunk.data) for part in chunks] == [(0, b"ab"), (2, b"c")]


async def test_a_file_that_breaks_off_is_told_as_what_it_is_and_not_as_a_caller_who_left() -> None:
    async with served(dataset_pb2_grpc.add_DatasetServiceServicer_to_server, Datasets()) as channel:
        gone = Failure(Reason.PEER_UNAVAILABLE, service="files")
        with pytest.raises(Failure) as refused:
            await RemoteDatasets(channel).take("rows.jsonl", 3, SHA, content(b"ab", ends=gone))
    assert refused.value is gone


async def test_an_order_and_its_job_keep_their_settings_and_labels() -> None:
    settings = {"method": "METHOD_RSLORA", "lora": {"rank": 4}, "learning_rate": 0.25, "seed": "7"}
    order = Order("m", "sha256:aa", settings=settings, labels={"openai.model": "base"})
    async with served(training_pb2_grpc.add_TrainingServiceServicer_to_server, Training()) as channel:
        job = await RemoteTrainer(channel).create(order)
    assert (job.job, job.state, job.model, job.create_time, job.end_time) == ("j1", State.QUEUED, "m", 100.0, 0.0)
    assert (job.settings, job.labels) == (settings, {"openai.model": "base"})


async def test_files_are_described_read_and_written() -> None:
    servicer = Files()
    async with served(file_pb2_grpc.add_FileServiceServicer_to_server, servicer) as channel:
        files = RemoteTrainingFiles(channel)
        assert await files.describe("file-a") == StoredFile("file-a", "a", 2, SHA, trainable=False)
        assert [piece async for piece in files.read("file-a")] == [b"a", b"b"]
        table = b"x" * 700_000
        assert await files.write_results("t.csv", table, "6f8d0b0e-0f0f-4a7e-9d30-1b1b1b1b1b1b") == "file-r"
    assert servicer.stored == table
