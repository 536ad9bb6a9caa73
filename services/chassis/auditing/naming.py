"""On what a call did something: a resource name whose parts are names in its answer or its request."""

import string
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

# What an event's room is reckoned with.
_MAX_CHARACTERS = 1024


def resource_name(template: str, *messages: object) -> str:
    """``models/{model}/aliases/{alias}`` with the fields of these names, of the first message that has one.

    A field is looked for in the message itself and in the messages that are its fields.  The name ends before the
    first part that none has: of an upload that broke off it is the collection alone.
    """
    name = ""
    known = [message for message in messages if isinstance(message, Message)]
    for literal, field in parts(template):
        name += literal
        if not field:
            break
        value = next(filter(None, (_named(message, field) for message in known)), "")
        if not value:
            break
        name += value
    return name.rstrip("/")[:_MAX_CHARACTERS]


@cache
def parts(template: str) -> tuple[tuple[str, str], ...]:
    """The text before each field, and the field."""
    return tuple((literal, field or "") for literal, field, _, _ in string.Formatter().parse(template))


def _named(message: Message, name: str) -> str:
    for path in _places(message.DESCRIPTOR, name):
        holder = message
        for step in path:
            holder = getattr(holder, step)
        value: str = getattr(holder, name)
        if value:
            return value
    return ""


@cache
def _places(descriptor: Descriptor, name: str) -> tuple[tuple[str, ...], ...]:
    """Where a message has a name: in itself, then in the messages that are its fields."""
    inside = (field.name for field in descriptor.fields if _single(field) and has_name(field.message_type, name))
    return (*(((),) if has_name(descriptor, name) else ()), *((field,) for field in inside))


def has_name(descriptor: Descriptor | None, name: str) -> bool:
    """Whether a message has a field of this name that is one text."""
    field = descriptor.fields_by_name.get(name) if descriptor is not None else None
    return field is not None and field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated


def can_name(descriptor: Descriptor, name: str) -> bool:
    """Whether a message has a name, in itself or in a message that is its field."""
    return bool(_places(descriptor, name))


def _single(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated
