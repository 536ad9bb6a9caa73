"""What an order says about its data, asked of a report and of a job."""

from trivium.trainer.v1 import training_pb2

from services.trainer import wire_datasets
from services.trainer.data.split import split
from services.trainer.wire_settings import settings


def test_a_report_holds_out_the_rows_that_the_run_will() -> None:
    """A tenth of single precision is more than a tenth: 4.5000001 rows are five, and 4.5 are four."""
    wanted = training_pb2.TrainingSettings(validation_ratio=0.1, sample_rows=45, seed=7)
    asked, run = wire_datasets.asked(wanted, ""), settings(wanted, hidden_size=32)
    report = split(range(100), asked.validation_ratio, asked.sample_rows, asked.seed)
    assert report == split(range(100), run.validation_ratio, run.sample_rows, run.seed)
    assert [len(rows) for rows in report] == [41, 4]
