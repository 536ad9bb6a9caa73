"""What a training process says of itself stays within what the trainer reads."""

from pathlib import Path

import protovalidate
import pytest
from google.protobuf.message import Message
from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.trainer.conduct import Refused
from services.trainer.data.checker import _problem
from services.trainer.data.examples import ChatEncoder, Unrenderable
from services.trainer.data.rows import Turn
from services.trainer.executors import processes
from services.trainer.job import State
from services.trainer.work import Line
from tests.tiny_model import TinyModel
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued


def broken_rules(message: Message) -> bool:
    try:
        protovalidate.validate(message)
    except protovalidate.ValidationError:
        return True
    return False


@pytest.mark.parametrize(("length", "broken"), [(128, False), (129, True)])
def test_the_name_of_a_target_module_has_a_bound(length: int, broken: bool) -> None:
    settings = training_pb2.LoraSettings(target_modules=["x" * length])
    assert broken_rules(settings) is broken


@pytest.mark.parametrize(("length", "broken"), [(256, False), (257, True)])
def test_a_base_may_have_as_long_a_name_in_a_check_and_a_preview_as_in_an_order(length: int, broken: bool) -> None:
    name = "x" * length
    asked = (
        training_pb2.CreateJobRequest(model="desk", dataset="pairs", base=name),
        dataset_pb2.ValidateDatasetRequest(dataset="pairs", base=name),
        dataset_pb2.PreviewDatasetRequest(dataset="pairs", base=name),
    )
    assert [broken_rules(request) for request in asked] == [broken] * 3


def test_a_refusal_that_quotes_the_caller_at_length_still_fits_in_a_line() -> None:
    said = Refused("SETTINGS_UNFIT", "x" * 200_000).line().encode()
    assert len(said) < processes._MAX_LINE_BYTES


UNFIT = "modules \x00 and \ud800"


async def test_a_refusal_that_quotes_what_no_database_takes_ends_its_job(world: World) -> None:
    line = Line.decode(Refused("SETTINGS_UNFIT", UNFIT).line().encode())
    assert line is not None
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        world.executor.says(job.job, line)
        failed = await world.until_state(job, State.FAILED)
    assert (failed.error_reason, failed.error_message) == ("SETTINGS_UNFIT", "modules \ufffd and \ufffd")


def test_a_template_that_refuses_with_what_no_message_takes_is_quoted_without_it(tmp_path: Path) -> None:
    refuses = "{{ raise_exception('half \\ud800') }}"
    encoder = ChatEncoder.load(TinyModel(template=refuses).write(tmp_path / "refusing"))
    with pytest.raises(Unrenderable, match="half \ufffd;"):
        encoder.encode([Turn("user", "Hello?"), Turn("assistant", "Yes.")])


def test_what_the_child_says_of_a_row_is_fit_to_be_sent() -> None:
    problem = _problem({"line": 3, "field": "\udfff", "message": UNFIT, "fatal": True})
    assert broken_rules(dataset_pb2.DatasetProblem(line=3, field=problem.field, message=problem.message)) is False


def test_a_base_without_a_template_says_what_is_missing(tmp_path: Path) -> None:
    encoder = ChatEncoder.load(TinyModel(template="").write(tmp_path / "silent"))
    with pytest.raises(Unrenderable, match=r"\bchat_template\.jinja\b"):
        encoder.encode([Turn("user", "Hello?"), Turn("assistant", "Yes.")])
