"""What a training process says of itself stays within what the trainer reads."""

import protovalidate
import pytest
from google.protobuf.message import Message
from trivium.trainer.v1 import training_pb2

from services.trainer import child, runner


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


def test_a_refusal_that_quotes_the_caller_at_length_still_fits_in_a_line() -> None:
    said = child.refusal_line(child.Refused("SETTINGS_UNFIT", "x" * 200_000)).encode()
    assert len(said) < runner._MAX_LINE_BYTES
