"""A rule of the wire that is broken is told in words, with what was given and what may be."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from protovalidate import ValidationError, Validator
from trivium.trainer.v1.training_pb2 import CreateJobRequest

from services.chassis.errors import Failure
from services.chassis.interceptors.rules_in_words import PATTERNS
from services.chassis.interceptors.validation import refusal

PROTOS = Path(__file__).resolve().parents[3] / "protos" / "trivium"
VALIDATOR = Validator()


def refused(request: Message) -> Failure:
    with pytest.raises(ValidationError) as error:
        VALIDATOR.validate(request)
    return refusal(cast(Any, SimpleNamespace()), error.value)


def order(**fields: Any) -> CreateJobRequest:
    return CreateJobRequest(**{"model": "desk", "dataset": "desk-pairs", **fields})


def test_every_pattern_of_the_contract_has_its_words() -> None:
    text = "".join(path.read_text() for path in PROTOS.rglob("*.proto"))
    written = re.findall(r'pattern(?: =|:) "([^"]+)"', text)
    assert {pattern.replace(r"\\", "\\") for pattern in written} == PATTERNS.keys()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"settings": {"lora": {"rank": 100_000}}}, "settings.lora.rank must be 1 to 512; this is 100000"),
        (
            {"settings": {"learning_rate": -0.5}},
            "settings.learning_rate must be above 0 and at most 1; this is -0.5",
        ),
        (
            {"model": "Bad Name"},
            "model must be 1 to 63 small letters, digits, dots and dashes, the first and the last a letter or a digit; "
            "this is 'Bad Name'",
        ),
        ({"model": ""}, "model must be given; it is empty"),
        ({"dataset": ""}, "dataset must be given; it is empty"),
        # Nobody's text is repeated.
        ({"dataset": "x" * 500}, "dataset must be at most 128 characters"),
    ],
)
def test_a_broken_rule_says_what_the_field_must_be_and_what_it_is(fields: dict[str, Any], said: str) -> None:
    assert refused(order(**fields)).sentence == f"The request is refused: {said}."


def test_of_several_the_first_is_told_and_all_are_listed() -> None:
    failure = refused(order(model="M" * 200, settings={"epochs": -1}))
    assert f"this is '{'M' * 80}…'. Of what is wrong with it this is the first of 2." in failure.sentence
    assert [violation.field for violation in failure.violations] == ["model", "settings.epochs"]
