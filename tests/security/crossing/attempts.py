"""Attempts of one tenant at what another has, each with its twin: the same request for something that never was.

Invariants: the two differ in the owner's values alone, which the twin replaces, each everywhere alike, by random ones of
the same length and alphabet; so whatever tells their answers apart tells that the owner's things exist.
"""

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.security.crossing.surface import Rpc
from tests.security.crossing.treasure import Treasure, is_text

_DEEP = 3
# Of the fields that are no names of things a few are filled, so that rules of the contract do not answer first.
_FURTHER = 0.15


class Kind(StrEnum):
    """What an attempt tries."""

    REAL_IDS = "real ids of existing objects"
    ANY_FIELD = "real ids where another kind of id belongs"
    FORGED_PARENT = "forged parents and resource names"
    PAGE_TOKEN = "page tokens, whole and tampered with"
    ETAG = "swapped etags"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its twin; ``used`` are the owner's values in it, ``made_up`` what stands for them in the twin."""

    kind: Kind
    rpc: Rpc
    request: Message
    twin: Message
    used: tuple[str, ...]
    made_up: tuple[str, ...]


class Trier:
    """Draws attempts.  The same seed draws the same ones from the same treasure."""

    def __init__(self, treasure: Treasure, owner_tenant: str, chance: random.Random) -> None:
        self._treasure = treasure
        self._owner = owner_tenant
        self._chance = chance
        self._all = sorted(value for values in treasure.values.values() for value in values)

    def attempt(self, rpc: Rpc) -> Attempt | None:
        """An attempt at an RPC; None where it takes nothing that could name anything."""
        kind = self._chance.choice(list(Kind))
        request, used = rpc.request(), list[str]()
        self._fill(request, kind, used, 0)
        if not used:
            return None
        made_up = {value: self._like(value) for value in dict.fromkeys(used)}
        twin = rpc.request()
        twin.CopyFrom(request)
        _replace(twin, made_up)
        return Attempt(kind, rpc, request, twin, tuple(made_up), tuple(made_up.values()))

    def _fill(self, message: Message, kind: Kind, used: list[str], depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if is_text(field):
                value = self._text(field.name, kind)
                if value:
                    used.append(value)
                    _set(message, field, value)
            elif field.message_type and depth < _DEEP and not _is_map(field) and self._chance.random() < 0.7:
                inner: list[str] = []
                filled = message.__class__()
                target = _member(filled, field)
                self._fill(target, kind, inner, depth + 1)
                if inner:
                    message.MergeFrom(filled)
                    used += inner
            elif self._chance.random() < _FURTHER:
                self._further(message, field)

    def _text(self, name: str, kind: Kind) -> str:
        mine = self._treasure.named(name)
        if name == "page_token":
            return self._token(mine) if kind is Kind.PAGE_TOKEN and mine else ""
        if name in {"etag", "request_id"}:
            return self._chance.choice(mine) if kind is Kind.ETAG and mine else ""
        if kind is Kind.ANY_FIELD and self._chance.random() < 0.5:
            return self._chance.choice(self._all)
        if not mine:
            return ""
        value = self._chance.choice(mine)
        if kind is Kind.FORGED_PARENT:
            return self._chance.choice([f"tenants/{self._owner}/{name}s/{value}", f"../{self._owner}/{value}", value])
        return value

    def _token(self, tokens: tuple[str, ...]) -> str:
        token = self._chance.choice(tokens)
        if self._chance.random() < 0.5:
            return token
        place = self._chance.randrange(len(token))
        return token[:place] + self._chance.choice(string.ascii_letters) + token[place + 1 :]

    def _further(self, message: Message, field: FieldDescriptor) -> None:
        if field.is_repeated or field.message_type:
            return
        if field.type == FieldDescriptor.TYPE_BOOL:
            setattr(message, field.name, True)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            setattr(message, field.name, self._chance.choice(field.enum_type.values).number)
        elif field.cpp_type in {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}:
            setattr(message, field.name, self._chance.randint(1, 3))

    def _like(self, value: str) -> str:
        """Another value of the same shape: letters for letters, digits for digits, the rest as it is."""
        if all(letter in string.hexdigits for letter in value):
            return "".join(self._chance.choice("0123456789abcdef") for _ in value)
        prefix = next((it for it in ("sha256:", "tenants/", "../") if value.startswith(it)), "")
        if prefix == "sha256:":
            return prefix + self._like(value.removeprefix(prefix))
        return "".join(self._other(letter) for letter in value)

    def _other(self, letter: str) -> str:
        for alphabet in (string.ascii_lowercase, string.ascii_uppercase, string.digits):
            if letter in alphabet:
                return self._chance.choice(alphabet)
        return letter


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type and field.message_type.GetOptions().map_entry)


def _member(message: Message, field: FieldDescriptor) -> Message:
    held = getattr(message, field.name)
    member: Message = held.add() if field.is_repeated else held
    return member


def _set(message: Message, field: FieldDescriptor, value: str) -> None:
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)


def _replace(message: Message, made_up: Mapping[str, str]) -> None:
    for field, value in message.ListFields():
        if is_text(field):
            if field.is_repeated:
                value[:] = [made_up.get(it, it) for it in value]
            else:
                setattr(message, field.name, made_up.get(value, value))
        elif field.message_type and not _is_map(field):
            for member in list(value) if field.is_repeated else [value]:
                _replace(member, made_up)
