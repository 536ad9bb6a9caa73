"""Single settings onto the wire, by their names in the domain.  Part of `wire`.

Invariant: a setting lands in the one message of the settings that has a field of its name.
"""

from enum import Enum
from typing import Any

from google.protobuf.message import Message
from trivium.trainer.v1 import training_pb2


def put(message: training_pb2.TrainingSettings, name: str, value: Any) -> None:
    """Set a setting, named as in `Settings`; a member of an enumeration, or its name, becomes the wire's.

    Raises KeyError for a name that is no setting, ValueError for a number that the field cannot hold.
    """
    holder = _holder(message, name)
    field = holder.DESCRIPTOR.fields_by_name[name]
    if isinstance(value, tuple):
        holder.ClearField(name)
        getattr(holder, name).extend(value)
        return
    if field.enum_type is not None:
        spelled = value.name if isinstance(value, Enum) else value
        prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
        value = field.enum_type.values_by_name[f"{prefix}{spelled}"].number
    setattr(holder, name, value)


def _holder(message: training_pb2.TrainingSettings, name: str) -> Message:
    for holder in (message, message.lora, message.preference):
        if name in holder.DESCRIPTOR.fields_by_name:
            return holder
    raise KeyError(name)
