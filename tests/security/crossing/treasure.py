"""What one tenant has: its ids, names, etags and page tokens by the fields that carry them.

They are gathered by asking, as the owner, everything that can be asked without changing anything, and by asking again
with what came back, until nothing new comes.  Invariant: a secret is told to nobody else; what a tenant that has nothing
is told, and one that has the same things of its own, is none.
"""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.security.crossing.likeness import says
from tests.security.crossing.surface import Answered, Caller, Rpc, rpcs

# Asking with these changes nothing, and takes no long computation.
_ASKS = ("Get", "List", "Resolve", "Explain", "Read")
_ROUNDS = 3
_AT_ONCE = 16
# A short word may stand in anybody's text by chance.
_SHORT = 6
_LEAST, _MOST = 4, 160
# What has none may be a word of the services' own.
_DIGIT = re.compile(r"\d")
# What answers tell by another name than requests ask it by, or never tell.
_ELSEWHERE = {"collection": "vector_store", "sweep": "job", "source": "job"}
# An answer a value, and a few of each kind are enough.
_VALUES_A_FIELD = 6


@dataclass(frozen=True, slots=True)
class Treasure:
    """Values by the names of their fields; ``secrets`` are those that nobody else sees in what is theirs."""

    values: Mapping[str, tuple[str, ...]]
    secrets: frozenset[str]

    def half(self, chance: random.Random) -> "Treasure":
        """Half of the values, to be said: of the other half whatever comes back was told."""
        known = {value for value in self.all if chance.random() < 1 / 2}
        values = {name: tuple(it for it in found if it in known) for name, found in self.values.items()}
        unsaid = {it for it in self.secrets if not any(says(value, it) for value in known)}
        return Treasure(values, frozenset(unsaid))

    @property
    def all(self) -> tuple[str, ...]:
        """Every value once, in an order that the seed of a draw can rely on."""
        return tuple(sorted({value for found in self.values.values() for value in found}))

    def named(self, field: str) -> tuple[str, ...]:
        """What a field of a request may be filled with: values of its own name, of one or of several, or of its last word.

        So ``target_version`` is a version, and ``input_file`` a file; a page's token is that of the page before.
        """
        if field == "page_token":
            return self.values.get("next_page_token", ())
        return next((self.values[name] for name in _names(field) if self.values.get(name)), ())

    def holds(self, field: str) -> bool:
        """Whether a field of requests names something of the kind that the treasure has, though none may be left to say."""
        return any(name in self.values for name in _names(field)) or field in _ELSEWHERE


def _names(field: str) -> tuple[str, ...]:
    one = field.removesuffix("s")
    return field, one, one.rpartition("_")[2], _ELSEWHERE.get(one, one)


async def gathered(
    owner: Caller,
    words: Sequence[str],
    unlisted: Mapping[str, tuple[str, ...]],
    others: Iterable[tuple[Caller, Mapping[str, tuple[str, ...]]]],
) -> Treasure:
    """What ``owner`` has, with ids that no list shows; what any of the ``others`` is told too is no secret.

    Of a text with spaces the owner's own ``words`` are the secret: sentences are told to everybody.
    """
    values, *common = await asyncio.gather(walked(owner, unlisted), *(walked(*it) for it in others))
    public = {value for walked in common for found in walked.values() for value in found}
    kept = {name: tuple(it for it in found if it not in public and _is_name(it)) for name, found in values.items()}
    texts_of = [value for found in values.values() for value in found if value not in public]
    secrets = {value for value in texts_of if _is_name(value) and len(value) > _SHORT and _DIGIT.search(value)}
    secrets |= {word for word in words if any(word in value for value in texts_of)}
    return Treasure({name: found for name, found in kept.items() if found}, frozenset(secrets))


def _is_name(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and _LEAST <= len(value) <= _MOST


async def walked(caller: Caller, known: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Everything that a caller is told when it asks, beginning with what it knows."""
    found: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for name, values in known.items():
        found[name].update(dict.fromkeys(values))
    asked: set[tuple[str, bytes]] = set()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(rpc: Rpc, request: Message) -> Answered:
        async with gate:
            return await caller.call(rpc, request)

    asks = [rpc for rpc in rpcs() if rpc.method.name.startswith(_ASKS) and not rpc.method.client_streaming]
    for _ in range(_ROUNDS):
        new = {
            (rpc.path, request.SerializeToString(deterministic=True)): (rpc, request)
            for rpc in asks
            for request in _requests(rpc, found)
        }
        answers = await asyncio.gather(*(ask(*it) for key, it in new.items() if key not in asked))
        asked |= new.keys()
        for answered in answers:
            for name, value in told(answered):
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


def told(answered: Answered) -> Iterator[tuple[str, str]]:
    """Every text of an answer with the name of its field, however deep."""
    for message in answered.messages:
        yield from texts(message)


def is_text(field: FieldDescriptor) -> bool:
    """Whether a field holds text, one or several."""
    return bool(field.type == FieldDescriptor.TYPE_STRING)


def texts(message: Message) -> Iterator[tuple[str, str]]:
    """Every text in a message with the name of its field, however deep; bytes are read as text."""
    for field, value in message.ListFields():
        for item in _items(field, value):
            if isinstance(item, str):
                yield field.name, item
            elif isinstance(item, bytes):
                yield field.name, item.decode(errors="replace")
            elif isinstance(item, Message):
                yield from texts(item)


def _items(field: FieldDescriptor, value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    return [*value] if field.is_repeated and isinstance(value, Iterable) else [value]
