"""A rule of the wire that is broken is told in words, with what was given and what may be."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.message import Message
from protovalidate import ValidationError, Validator
from trivium.trainer.v1.training_pb2 import CreateJobRequest

from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.rules_in_words import PATTERNS
from services.chassis.interceptors.validation import refusal
from tests.harness.wording import missing

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
    ("fields", "named"),
    [
        ({"settings": {"lora": {"rank": 100_000}}}, ("settings.lora.rank", "1 to 512", "100000")),
        ({"settings": {"learning_rate": -0.5}}, ("settings.learning_rate", "above 0", "1", "-0.5")),
        ({"model": "Bad Name"}, ("model", "1 to 63", "'Bad Name'")),
        ({"model": ""}, ("model", "empty")),
        ({"dataset": ""}, ("dataset", "empty")),
        ({"dataset": "x" * 500}, ("dataset", "128 characters")),
    ],
)
def test_a_broken_rule_says_what_the_field_must_be_and_what_it_is(
    fields: dict[str, Any], named: tuple[str, ...]
) -> None:
    failure = refused(order(**fields))
    assert failure.reason is Reason.REQUEST_INVALID
    assert not missing(failure.sentence, *named)
    # The message does not repeat a long text.
    assert "x" * 100 not in failure.sentence


def test_of_several_the_first_is_told_and_all_are_listed() -> None:
    failure = refused(order(model="M" * 200, settings={"epochs": -1}))
    assert f"'{'M' * 80}…'" in failure.sentence
    assert not missing(failure.sentence, "2")
    assert [violation.field for violation in failure.violations] == ["model", "settings.epochs"]
