"""What one tenant has: its ids, names, etags and page tokens by the fields that carry them.

They are gathered by asking, as the owner, everything that can be asked without changing anything, and by asking again
with what came back, until nothing new comes.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.security.crossing.surface import Caller, Rpc, rpcs

# Asking with these changes nothing.
_ASKS = ("Get", "List", "Preview", "Resolve", "Explain")
_ROUNDS = 3
_SHORT = 6
# An answer a value, and a few of each kind are enough.
_VALUES_A_FIELD = 6


@dataclass(frozen=True, slots=True)
class Treasure:
    """Values by the names of their fields; ``secrets`` are those that nobody else sees in what is theirs."""

    values: Mapping[str, tuple[str, ...]]
    secrets: frozenset[str]

    def half(self, chance: random.Random) -> "Treasure":
        """Half of the values, to be said: of the other half whatever comes back was told."""
        known = {value for found in self.values.values() for value in found if chance.random() < 1 / 2}
        values = {name: tuple(it for it in found if it in known) for name, found in self.values.items()}
        unsaid = {it for it in self.secrets if not any(it in value for value in known)}
        return Treasure({name: found for name, found in values.items() if found}, frozenset(unsaid))

    def named(self, field: str) -> tuple[str, ...]:
        """What a field of a request may be filled with: values of its own name, of one or of several."""
        return self.values.get(field) or self.values.get(field.removesuffix("s")) or ()


async def gathered(owner: Caller, stranger: Caller) -> Treasure:
    """What ``owner`` has; what ``stranger``, who has nothing, is shown too is no secret."""
    values, common = await _walked(owner), await _walked(stranger)
    public = {value for found in common.values() for value in found}
    secrets = {value for found in values.values() for value in found} - public
    kept = {name: tuple(value for value in found if value in secrets) for name, found in values.items()}
    # A short word may stand in anybody's text by chance.
    return Treasure({k: v for k, v in kept.items() if v}, frozenset(it for it in secrets if len(it) > _SHORT))


async def _walked(caller: Caller) -> dict[str, tuple[str, ...]]:
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    asked: set[tuple[str, bytes]] = set()
    for _ in range(_ROUNDS):
        for rpc in rpcs():
            if rpc.method.name.startswith(_ASKS) and not rpc.method.client_streaming:
                for request in list(_requests(rpc, found)):
                    key = (rpc.path, request.SerializeToString(deterministic=True))
                    if key in asked:
                        continue
                    asked.add(key)
                    for message in (await caller.call(rpc, request)).messages:
                        for name, value in texts(message):
                            found[name][value] = None
    return {name: tuple(values) for name, values in found.items()}


def _requests(rpc: Rpc, found: Mapping[str, Mapping[str, None]]) -> Iterator[Message]:
    """The bare request, with pages of one so that there are page tokens, then one for each value that is known."""
    fields = rpc.method.input_type.fields_by_name
    yield rpc.request(**({"page_size": 1} if "page_size" in fields else {}))
    named = [name for name, field in fields.items() if is_text(field) and found.get(name) and name != "page_token"]
    for place in range(_VALUES_A_FIELD):
        filled = {name: list(found[name])[place % len(found[name])] for name in named}
        if filled and place < max(len(found[name]) for name in named):
            first = {name: [value] if fields[name].is_repeated else value for name, value in filled.items()}
            yield rpc.request(**first)
            for name, value in first.items():
                yield rpc.request(**{name: value})


def is_text(field: FieldDescriptor) -> bool:
    """Whether a field holds text, one or several."""
    return bool(field.type == FieldDescriptor.TYPE_STRING)


def texts(message: Message) -> Iterator[tuple[str, str]]:
    """Every text in a message with the name of its field, however deep."""
    for field, value in message.ListFields():
        for item in _items(field, value):
            if isinstance(item, str):
                yield field.name, item
            elif isinstance(item, Message):
                yield from texts(item)


def _items(field: FieldDescriptor, value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return [*value] if field.is_repeated and isinstance(value, Iterable) else [value]
