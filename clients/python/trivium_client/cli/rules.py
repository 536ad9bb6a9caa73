"""What an order says, held against the contract's own rules before a file is sent: names, and bounds of numbers.

Invariant: no rule is written here a second time; the stubs bring them, and what is not looked at here the trainer refuses.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from buf.validate import validate_pb2
from google.protobuf.descriptor import Descriptor
from trivium.trainer.v1 import training_pb2

from trivium_client import wire
from trivium_client.cli.settings_text import described
from trivium_client.nouns import TrainingSettings

_ORDER = training_pb2.CreateJobRequest.DESCRIPTOR
_NUMBERS = {"int32", "int64", "float", "double"}
_BOUNDS = {
    "gte": ("at least", operator.ge),
    "gt": ("above", operator.gt),
    "lte": ("at most", operator.le),
    "lt": ("below", operator.lt),
}
_NAMES = {
    "model": "no model's name: one has up to 63 small letters, digits, dots and hyphens, with a letter or a digit at both ends",
    "alias": "no alias: one has up to 32 small letters, digits and hyphens, and begins with a letter; - stands for none",
}


def check_name(field: str, given: str) -> None:
    """Raise ValueError for what is no name of a `model` or an `alias`, with what would be one."""
    rules = _rules(_ORDER, field).string
    if given in rules.not_in:
        raise ValueError(f"{given!r} is the platform's own name; say another")
    if not re.fullmatch(rules.pattern, given):
        near = re.sub(r"[^a-z0-9-]+", "-", given.lower()).strip("-")
        like = f", such as {near}" if re.fullmatch(rules.pattern, near) and near not in rules.not_in else ""
        raise ValueError(f"{given!r} is {_NAMES[field]}{like}")


def out_of_bounds(settings: TrainingSettings) -> dict[str, str]:
    """What the contract allows of each setting that is outside of it, by its name."""
    return _out_of_bounds(settings, training_pb2.TrainingSettings.DESCRIPTOR)


def takes(name: str) -> str:
    """What a setting takes, in words."""
    message = training_pb2.TrainingSettings.DESCRIPTOR
    *groups, inner = name.split(".")
    for group in groups:
        message = message.fields_by_name[group].message_type
    enum = message.fields_by_name[inner].enum_type
    if enum is not None:
        return ", ".join(wire.words(getattr(training_pb2, enum.name)))
    return " and ".join(words for words, _, _ in _bounds(_rules(message, inner))) or described(name)


def _out_of_bounds(record: Any, message: Descriptor) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in fields(record):
        value = getattr(record, each.name)
        if is_dataclass(value):
            inner = _out_of_bounds(value, message.fields_by_name[each.name].message_type)
            found |= {f"{each.name}.{name}": allowed for name, allowed in inner.items()}
        elif isinstance(value, int | float) and (allowed := _allowed(value, _rules(message, each.name))):
            found[each.name] = f"{allowed}, not {value}"
    return found


def _allowed(value: float, rules: Any) -> str:
    """The bounds of which a number breaks one, in words; empty where it keeps them."""
    bounds = _bounds(rules)
    broken = any(not holds(value, bound) for _, holds, bound in bounds)
    return " and ".join(words for words, _, _ in bounds) if broken else ""


def _bounds(rules: Any) -> list[tuple[str, Callable[[float, float], bool], float]]:
    """The bounds of a number, each in words, as a comparison and as the other side of it; none of anything else."""
    if (kind := rules.WhichOneof("type")) not in _NUMBERS:
        return []
    numbers = getattr(rules, kind)
    there = [(*how, getattr(numbers, name)) for name, how in _BOUNDS.items() if numbers.HasField(name)]
    return [
        (f"{words} {bound if isinstance(bound, int) else format(bound, 'g')}", holds, bound)
        for words, holds, bound in there
    ]


def _rules(message: Descriptor, field: str) -> Any:
    return message.fields_by_name[field].GetOptions().Extensions[validate_pb2.field]
