"""Attempts of one tenant at what another has, each with its twin: the same request for something that never was.

Invariants: the two differ in the owner's values alone, which the twin replaces, each everywhere alike, by random ones of
the same length and alphabet; so whatever tells their answers apart tells that the owner's things exist.
"""

import random
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from protovalidate import ValidationError, Validator

from services.chassis.interceptors.validation import field_path
from tests.security.crossing.guesses import GUESSES, TENANTS
from tests.security.crossing.likeness import alike, shape
from tests.security.crossing.starts import start
from tests.security.crossing.surface import Rpc
from tests.security.crossing.treasure import Treasure, is_text, texts

_DEEP = 3
# Of the fields that are no names of things a few are filled, so that rules of the contract do not answer first.
_FURTHER = 0.1
# A request that breaks a rule of the contract is refused before anything is looked up: most are drawn again.
_DRAWS = 12
_TAMPERED = 1 / 2


class Kind(StrEnum):
    """What an attempt tries."""

    REAL_IDS = "real ids of existing objects"
    ANY_FIELD = "real ids where another kind of id belongs"
    GUESSED = "names guessed from the dictionary"
    FORGED_PARENT = "forged parents and resource names"
    PAGE_TOKEN = "page tokens, whole and tampered with"
    ETAG = "swapped etags and request ids"
    BARE = "lists and watches that name nothing"
    ROUTE = "routes of HTTP, with real ids in path, query and body"


# The fields that only an attempt of the kind fills, but for RPCs that find something by them.
_ITS_OWN = {"page_token": Kind.PAGE_TOKEN, "etag": Kind.ETAG, "request_id": Kind.ETAG}
# What everybody calls alike: a kind of document that is read and one that never was differ for all.
_USUAL = {"alias": "prod", "media_type": "text/plain"}
_FINDS_BY_REQUEST = ("GetReceipt", "ReplayAnswer", "UsageRecord")
_ANYWHERE = (Kind.REAL_IDS, Kind.ANY_FIELD, Kind.GUESSED, Kind.FORGED_PARENT)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its twin; ``used`` are the owner's values in it, ``made_up`` what stands for them in the twin.

    ``shape`` is the same for requests whose twins are answered alike.
    """

    kind: Kind
    rpc: Rpc
    request: Message
    twin: Message
    used: tuple[str, ...]
    made_up: tuple[str, ...]
    shape: bytes


class Trier:
    """Draws attempts.  The same seed draws the same ones from the same treasure.

    At each RPC the kinds take turns; ``kinds`` has those that are left of a turn, for triers that go on from one another.
    """

    def __init__(
        self,
        treasure: Treasure,
        owner_tenant: str,
        chance: random.Random,
        rules: Validator,
        kinds: dict[str, list[Kind]] | None = None,
    ) -> None:
        self._treasure = treasure
        self._owner = owner_tenant
        self._chance = chance
        self._all = treasure.all
        self._rules = rules
        self._kinds = {} if kinds is None else kinds

    def attempt(self, rpc: Rpc) -> Attempt:
        """An attempt at an RPC; a bare one where it takes nothing that could name anything."""
        kind = self._kind(rpc)
        drawn: tuple[Message, list[str]] | None = None
        for _ in range(_DRAWS):
            request, filled = start(rpc), list[str]()
            self._fill(request, kind, filled, 0)
            obeys = self._made_to_obey(request)
            said = {value for _, value in texts(request)}
            used = [value for value in dict.fromkeys(filled) if value in said]
            if used:
                drawn = request, used
                if obeys:
                    break
        return self._beside(kind, rpc, *(drawn or (start(rpc), [])))

    def _kind(self, rpc: Rpc) -> Kind:
        fields = () if rpc.method.name in _FINDS_BY_REQUEST else rpc.method.input_type.fields_by_name
        own = [kind for name, kind in _ITS_OWN.items() if name in fields]
        left = self._kinds.setdefault(rpc.path, [])
        if not left:
            # Few RPCs have special kinds of attempt; there they are tried as often as the common ones.
            left += [*_ANYWHERE, *own, *own]
            self._chance.shuffle(left)
        return left.pop()

    def _beside(self, kind: Kind, rpc: Rpc, request: Message, used: list[str]) -> Attempt:
        made_up = {value: alike(value, self._chance) for value in used}
        twin, drawn = copied(request), copied(request)
        _replace(twin, made_up)
        _replace(drawn, {value: shape(value) for value in made_up})
        form = rpc.path.encode() + drawn.SerializeToString(deterministic=True)
        if kind in _ITS_OWN.values() and not any(kind is _ITS_OWN.get(name) for name, _ in texts(request)):
            kind = Kind.REAL_IDS
        kind = kind if used else Kind.BARE
        return Attempt(kind, rpc, request, twin, tuple(made_up), tuple(made_up.values()), form)

    def _made_to_obey(self, request: Message) -> bool:
        """Leave out what breaks the rules of the contract; whether the rest obeys them."""
        broken = self._broken(request)
        for name in filter(None, broken):
            request.ClearField(name)
        return not broken or not self._broken(request)

    def _broken(self, request: Message) -> set[str]:
        """The fields that break a rule, empty for the whole request."""
        try:
            self._rules.validate(request)
        except ValidationError as error:
            return {re.split(r"[.[]", field_path(it.proto.field))[0] for it in error.violations}
        return set()

    def _fill(self, message: Message, kind: Kind, used: list[str], depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if is_text(field):
                value = self._text(message.DESCRIPTOR.name, field.name, kind)
                if field.name in _USUAL:
                    _set(message, field, _USUAL[field.name])
                elif value:
                    used.append(value)
                    _set(message, field, value)
            elif field.message_type and depth < _DEEP and not _is_map(field) and self._chance.random() < 0.7:
                self._fill_inner(message, field, kind, used, depth)
            elif self._chance.random() < _FURTHER:
                self._further(message, field)

    def _fill_inner(self, message: Message, field: FieldDescriptor, kind: Kind, used: list[str], depth: int) -> None:
        inner: list[str] = []
        filled = message.__class__()
        self._fill(_member(filled, field), kind, inner, depth + 1)
        if inner:
            message.MergeFrom(filled)
            used += inner

    def _text(self, message: str, name: str, kind: Kind) -> str:
        mine = self._treasure.named(name)
        if name in _ITS_OWN and not message.startswith(_FINDS_BY_REQUEST):
            if kind is not _ITS_OWN[name] or not mine:
                return ""
            return self._token(mine) if kind is Kind.PAGE_TOKEN else self._chance.choice(mine)
        if kind is Kind.ANY_FIELD and self._chance.random() < 1 / 2:
            return self._chance.choice(self._all)
        if not self._treasure.holds(name):
            return ""
        if kind is Kind.GUESSED:
            return self._chance.choice(TENANTS if name == "tenant" else GUESSES)
        value = self._chance.choice(mine or self._all)
        return self._chance.choice(forged(self._owner, name, value)) if kind is Kind.FORGED_PARENT else value

    def _token(self, tokens: tuple[str, ...]) -> str:
        token = self._chance.choice(tokens)
        if self._chance.random() >= _TAMPERED:
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


def forged(tenant: str, noun: str, value: str) -> tuple[str, ...]:
    """Ways to say another tenant's thing by a name that says whose it is."""
    return (f"tenants/{tenant}/{noun}s/{value}", f"../{tenant}/{value}", f"{tenant}/{value}")


def copied(message: Message) -> Message:
    """Another message that says the same."""
    copy = message.__class__()
    copy.CopyFrom(message)
    return copy


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
