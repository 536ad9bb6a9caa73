"""What a training process says of itself stays within what the trainer reads."""

import protovalidate
import pytest
from google.protobuf.message import Message
from trivium.trainer.v1 import training_pb2

from services.trainer import child


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


def test_a_refusal_fits_in_a_line() -> None:
    assert child._MAX_SAID < 64 * 1024 // 4
