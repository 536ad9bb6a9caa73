"""A batch is written as the document says, whatever its state."""

import pytest
from trivium.files.v1 import batch_pb2

from gateway.http.batches import BatchShown, rendered

ENDS = {"completed", "failed", "expired", "cancelled"}


@pytest.mark.parametrize("state", [number for number in batch_pb2.BatchState.values() if number])
def test_every_state_has_its_word_and_its_own_time(state: int):
    batch = batch_pb2.Batch(
        batch="batch_1",
        endpoint=batch_pb2.BATCH_ENDPOINT_EMBEDDINGS,
        input_file="file-1",
        completion_window_seconds=86400,
        problems=[batch_pb2.BatchProblem(code="x", message="y", line=2)],
        total=3,
    )
    batch.state = state  # type: ignore[assignment]  # any of the enum
    batch.create_time.seconds, batch.expire_time.seconds = 100, 86500
    word = rendered(batch)["status"]
    if word in ENDS:
        batch.end_time.seconds = 200
    shown = BatchShown.model_validate(rendered(batch))
    ended = {name for name in ENDS if getattr(shown, f"{name}_at") == 200}
    assert ended == ({word} & ENDS)
    assert (shown.completion_window, shown.errors and shown.errors.data[0].line) == ("24h", 2)
