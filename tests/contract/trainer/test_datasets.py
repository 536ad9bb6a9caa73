import csv
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import grpc
import pyarrow
import pytest
from google.rpc import error_details_pb2, status_pb2
from pyarrow import parquet
from trivium.trainer.v1 import dataset_pb2, training_pb2

from tests.contract.trainer.deployment import Caller, parts
from tests.unit.trainer.tiny import ROWS as ROW_PAIRS
from tests.unit.trainer.tiny import rows_text

ROWS = rows_text().encode()


def failed(error: Any) -> tuple[grpc.StatusCode, str, list[tuple[str, str]]]:
    """Code, reason and violations of a failure."""
    packed = next(value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin")
    status = status_pb2.Status.FromString(packed)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for kind in (info, bad):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    return error.code(), info.reason, [(entry.field, entry.description) for entry in bad.field_violations]


def test_a_dataset_is_described_by_what_is_in_it(caller: Caller) -> None:
    stored = caller.upload(ROWS, "House Rules.jsonl")
    assert stored.dataset == "house-rules"
    assert stored.digest == f"sha256:{hashlib.sha256(ROWS).hexdigest()}"
    assert (stored.rows, stored.size_bytes) == (10, len(ROWS))
    assert stored.format == dataset_pb2.DATASET_FORMAT_PROMPT_COMPLETION
    assert stored.tokens > stored.supervised_tokens > 0
    by_digest = caller.datasets.GetDataset(
        dataset_pb2.GetDatasetRequest(dataset=stored.digest), metadata=caller.metadata
    )
    assert by_digest.dataset == stored


def test_the_same_bytes_are_the_same_dataset_and_others_under_its_name_are_its_next_version(caller: Caller) -> None:
    first = caller.upload(ROWS + b"\n", "twice.jsonl")
    assert caller.upload(ROWS + b"\n", "renamed.jsonl") == first
    other = caller.upload(ROWS + b"\n\n", "twice.jsonl")
    assert [(one.dataset, one.version) for one in (first, other)] == [("twice", 1), ("twice", 2)]
    for name, meant in {"twice": other, "twice@1": first, "twice@2": other, first.digest: first}.items():
        request = dataset_pb2.GetDatasetRequest(dataset=name)
        assert caller.datasets.GetDataset(request, metadata=caller.metadata).dataset == meant


def as_csv() -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerows([("prompt", "completion"), *ROW_PAIRS])
    return text.getvalue().encode()


def as_parquet() -> bytes:
    sink = io.BytesIO()
    prompts, completions = zip(*ROW_PAIRS, strict=True)
    parquet.write_table(pyarrow.table({"prompt": prompts, "completion": completions}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(("name", "make"), [("c.csv", as_csv), ("p.parquet", as_parquet)])
def test_files_of_all_kinds_are_uploaded_in_pieces_go_on_and_hold_the_same_rows(
    caller: Caller, name: str, make: Callable[[], bytes]
) -> None:
    content = make()
    with pytest.raises(grpc.RpcError):
        caller.datasets.UploadDataset(parts(content, name, piece=100, end=200), metadata=caller.metadata)
    stored = caller.datasets.UploadDataset(parts(content, name, offset=200), metadata=caller.metadata).dataset
    lines = caller.upload(rows_text(1).encode(), "five.jsonl")
    assert (stored.rows, stored.tokens, stored.supervised_tokens) == (5, lines.tokens, lines.supervised_tokens)


def test_malformed_lines_are_named_up_to_twenty_and_nothing_is_kept(caller: Caller) -> None:
    content = ROWS + b'{"prompt": "a"}\n' * 30
    with pytest.raises(grpc.RpcError) as refused:
        caller.upload(content, "bad.jsonl")
    code, reason, violations = failed(refused.value)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DATASET_MALFORMED")
    assert [field for field, _ in violations] == [f"line {number}, completion" for number in range(11, 31)]
    assert "add what should be answered" in violations[0][1]
    with pytest.raises(grpc.RpcError) as missing:
        caller.datasets.GetDataset(dataset_pb2.GetDatasetRequest(dataset="bad"), metadata=caller.metadata)
    assert failed(missing.value)[1] == "DATASET_NOT_FOUND"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    lines: list[int] = []
    request = dataset_pb2.ListDatasetProblemsRequest(dataset=digest, page_size=25)
    while not lines or request.page_token:
        page = caller.datasets.ListDatasetProblems(request, metadata=caller.metadata)
        lines += [entry.line for entry in page.problems]
        request.page_token = page.next_page_token
    assert lines == list(range(11, 41))


def test_an_interrupted_upload_goes_on_where_it_stopped(caller: Caller) -> None:
    content = rows_text(40).encode()
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(grpc.RpcError) as short:
        caller.datasets.UploadDataset(parts(content, "long.jsonl", end=900), metadata=caller.metadata)
    assert failed(short.value)[1] == "SIZE_MISMATCH"
    reached = caller.datasets.GetDatasetUpload(
        dataset_pb2.GetDatasetUploadRequest(sha256=digest), metadata=caller.metadata
    ).status
    assert (reached.committed_bytes, reached.complete) == (900, False)
    rest = parts(content, "long.jsonl", offset=reached.committed_bytes)
    stored = caller.datasets.UploadDataset(rest, metadata=caller.metadata).dataset
    assert stored.rows == 200


def test_an_upload_of_bytes_that_are_complete_sends_none_of_them_again(caller: Caller) -> None:
    content = rows_text(41).encode()
    stored = caller.upload(content, "once.jsonl")
    reached = caller.datasets.GetDatasetUpload(
        dataset_pb2.GetDatasetUploadRequest(sha256=hashlib.sha256(content).hexdigest()), metadata=caller.metadata
    ).status
    assert (reached.committed_bytes, reached.complete) == (len(content), True)
    nothing_more = parts(content, "once.jsonl", offset=reached.committed_bytes)
    assert caller.datasets.UploadDataset(nothing_more, metadata=caller.metadata).dataset == stored


def test_bytes_that_are_not_what_was_announced_are_not_kept(caller: Caller) -> None:
    messages = list(parts(rows_text(11).encode(), "swapped.jsonl"))
    messages[1].chunk.data = messages[1].chunk.data[::-1]
    with pytest.raises(grpc.RpcError) as refused:
        caller.datasets.UploadDataset(iter(messages), metadata=caller.metadata)
    assert failed(refused.value)[1] == "DIGEST_MISMATCH"


def test_rows_that_will_be_cut_are_warned_of_by_line(caller: Caller) -> None:
    long = json.dumps({"prompt": "Say it all.", "completion": "x" * 400})
    stored = caller.upload(ROWS + long.encode() + b"\n", "one-long.jsonl")
    answer = caller.datasets.ValidateDataset(
        dataset_pb2.ValidateDatasetRequest(dataset=stored.dataset, max_row_tokens=128), metadata=caller.metadata
    )
    named = [(entry.line, entry.fatal) for entry in answer.problems]
    # Five rows repeat the others.
    assert named == [(line, False) for line in range(6, 12)]
    assert answer.problem_count == 6
    report = answer.report
    assert (report.rows, report.examples, report.cut_rows, report.duplicate_rows) == (11, 11, 1, 5)
    assert (report.objective, report.max_row_tokens) == (training_pb2.OBJECTIVE_SUPERVISED, 128)
    assert sum(bucket.rows for bucket in report.lengths) == 11
    assert any("1 of 11 rows are longer than 128 tokens" in warning for warning in report.warnings)


def test_a_dataset_is_checked_for_the_job_to_come(caller: Caller) -> None:
    texts = "".join(json.dumps({"text": f"{number}: " + "once there was " * 20}) + "\n" for number in range(3))
    stored = caller.upload(texts.encode(), "tales.jsonl")
    settings = training_pb2.TrainingSettings(max_row_tokens=64, epochs=2, batch_rows=4)
    answer = caller.datasets.ValidateDataset(
        dataset_pb2.ValidateDatasetRequest(dataset=stored.dataset, settings=settings), metadata=caller.metadata
    )
    report = answer.report
    assert (report.objective, report.rows, report.examples) == (training_pb2.OBJECTIVE_CONTINUED, 3, 15)
    assert (report.steps, report.trained_tokens) == (8, 2 * report.supervised_tokens)
    settings.objective = training_pb2.OBJECTIVE_DPO
    answer = caller.datasets.ValidateDataset(
        dataset_pb2.ValidateDatasetRequest(dataset=stored.dataset, settings=settings), metadata=caller.metadata
    )
    assert [entry.fatal for entry in answer.problems] == [True]


def test_a_preview_shows_the_tokens_that_are_learned(caller: Caller) -> None:
    stored = caller.upload(ROWS, "house-rules.jsonl")
    request = dataset_pb2.PreviewDatasetRequest(dataset=stored.dataset, rows=2)
    answer = caller.datasets.PreviewDataset(request, metadata=caller.metadata)
    learned = ["".join(token.text for token in row.tokens if token.supervised) for row in answer.rows]
    assert learned == ["Green.<|im_end|>", "The night watch has it.<|im_end|>"]
    assert ([row.line for row in answer.rows], answer.next_offset) == ([1, 2], 2)


def test_a_row_that_is_made_to_harm_is_named_and_the_trainer_goes_on(caller: Caller) -> None:
    nested = b'{"messages": ' + b"[" * 500_000 + b"\n"
    with pytest.raises(grpc.RpcError) as refused:
        caller.upload(nested + b"x" * 5_000_000, "hostile.jsonl", piece=1 << 20)
    code, reason, violations = failed(refused.value)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "DATASET_MALFORMED")
    assert [field for field, _ in violations] == ["line 1", "line 2"]
    assert caller.upload(rows_text(12).encode(), "harmless.jsonl").rows == 60


def test_pages_of_a_list_meet_without_gap(caller: Caller) -> None:
    names = {(caller.upload(rows_text(copies).encode(), f"page{copies}.jsonl").dataset, 1) for copies in (3, 4, 5)}
    seen: list[tuple[str, int]] = []
    token = ""
    while True:
        page = caller.datasets.ListDatasets(
            dataset_pb2.ListDatasetsRequest(page_size=2, page_token=token), metadata=caller.metadata
        )
        seen.extend((entry.dataset, entry.version) for entry in page.datasets)
        token = page.next_page_token
        if not token:
            break
    assert len(seen) == len(set(seen))
    assert names <= set(seen)


def test_a_deleted_dataset_is_gone(caller: Caller) -> None:
    stored = caller.upload(rows_text(6).encode(), "gone.jsonl")
    request = dataset_pb2.DeleteDatasetRequest(dataset=stored.dataset)
    caller.datasets.DeleteDataset(request, metadata=caller.metadata)
    with pytest.raises(grpc.RpcError) as missing:
        caller.datasets.DeleteDataset(request, metadata=caller.metadata)
    assert failed(missing.value)[1] == "DATASET_NOT_FOUND"
