"""What a training process says of itself stays within what the trainer reads."""

import signal
from pathlib import Path

import protovalidate
import pytest
from google.protobuf.message import Message
from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.trainer.child import rendering
from services.trainer.conduct import Refused
from services.trainer.data.examples import ChatEncoder, Unrenderable
from services.trainer.data.rows import Turn
from services.trainer.executors import processes
from tests.tiny_model import TinyModel


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


def test_a_base_without_a_template_says_what_is_missing(tmp_path: Path) -> None:
    encoder = ChatEncoder.load(TinyModel(template="").write(tmp_path / "silent"))
    with pytest.raises(Unrenderable, match=r"import it with a chat_template\.jinja"):
        encoder.encode([Turn("user", "Hello?"), Turn("assistant", "Yes.")])


def test_a_template_that_never_ends_is_ended_and_the_limit_with_it(tmp_path: Path) -> None:
    endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    encoder = ChatEncoder.load(TinyModel(template=endless).write(tmp_path / "endless"))
    with pytest.raises(Refused, match="rendering the dataset"), rendering(0, least_seconds=0.2):
        encoder.encode([Turn("user", "Hello?"), Turn("assistant", "Yes.")])
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGPROF) is signal.SIG_DFL
