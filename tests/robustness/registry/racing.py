"""Sixteen clients that create, update by etag, move aliases and read at once, and remember what they were told."""

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import grpc
from trivium.registry.v1 import registry_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.linearizability import ABSENT_ETAG, Call, Kind, Outcome
from tests.stack import User, eventually

CLIENTS = 16
# Calls on a key before the clients go on to the next: enough to collide, few enough to search.
CALLS_A_KEY = 80
_TOLD = {
    "MODEL_EXISTS": Outcome.EXISTS,
    "MODEL_NOT_FOUND": Outcome.ABSENT,
    "ALIAS_NOT_FOUND": Outcome.ABSENT,
    "ETAG_MISMATCH": Outcome.MISMATCH,
}
# What a caller hears of a server that was killed under it.
_LOST = frozenset({"", "DRAINING", "PEER_UNAVAILABLE", "NOT_READY"})


class Race:
    """The clients, their history, and how far they are."""

    def __init__(self, doors: Sequence[Callable[[], User]], seed: int, calls: int) -> None:
        """``doors`` lead to replicas: each opens a connection of its own for one client."""
        self._doors = doors
        self._seed = seed
        self._calls = calls
        self._numbers = itertools.count()
        self.history: list[Call] = []
        self.unexpected: list[str] = []
        self.versions = [doors[0]().publish("aliased").version for _ in range(4)]
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]

    def start(self) -> None:
        """Let them go."""
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        """Calls answered or given up so far."""
        return len(self.history)

    def reach(self, calls: float) -> None:
        """Wait until so many are done."""
        eventually(lambda: self.done >= calls, "the race goes on")

    def join(self) -> None:
        """Wait until all calls are made."""
        for thread in self._threads:
            thread.join(300)
            assert not thread.is_alive()

    def outcomes(self) -> Counter[str]:
        """How often what was heard."""
        return Counter(f"{call.kind} {call.outcome}" for call in self.history)

    def _client(self, number: int) -> None:
        source = random.Random(self._seed * 1000 + number)
        user = source.choice(self._doors)()
        etags: dict[str, str] = {}
        for count in self._numbers:
            if count >= self._calls:
                return
            window = count // (4 * CALLS_A_KEY) * 2
            key = f"{source.choice(('model', 'alias'))}-{window + source.randrange(2)}"
            call = self._one(user, source, key, etags.get(key, ""), f"v{count}", number)
            if call.etag and call.etag != ABSENT_ETAG:
                etags[key] = call.etag
            self.history.append(call)

    def _one(self, user: User, source: random.Random, key: str, etag: str, value: str, client: int) -> Call:
        wanted = source.choices((Kind.READ, Kind.SET, Kind.CREATE, Kind.PUT), (4, 4, 1, 1))[0]
        kind = Kind.CREATE if wanted is Kind.SET and not etag else wanted
        noun: Register = (Models if key.startswith("model") else Aliases)(user, key, self.versions)
        if kind is Kind.PUT and isinstance(noun, Models):
            kind = Kind.READ  # an update of a model that is absent creates none
        if isinstance(noun, Aliases):
            value = source.choice(self.versions)
        call = Call(key, kind, Outcome.OK, time.monotonic_ns(), 0, value, expected=etag, client=client)
        if kind is Kind.CREATE:
            call = replace(call, expected=ABSENT_ETAG)
        try:
            told = noun.ask(call)
        except grpc.RpcError as error:
            told = self._failed(call, error)
        return replace(told, returned=time.monotonic_ns())

    def _failed(self, call: Call, error: grpc.RpcError) -> Call:
        failure = from_rpc_error(error)
        outcome = _TOLD.get(failure.reason, Outcome.UNKNOWN)
        if outcome is Outcome.UNKNOWN and failure.reason not in _LOST:
            self.unexpected.append(f"{call.kind} {call.key}: {failure}")
        return replace(call, outcome=outcome, etag=failure.variables.get("etag", ""))


@dataclass
class Register:
    """A key as the checker knows it: a value with an etag."""

    user: User
    key: str
    versions: Sequence[str]

    def ask(self, call: Call) -> Call:
        """Make the call; it comes back with what was told.  Raises RpcError."""
        raise NotImplementedError


class Models(Register):
    """A model; its value is its description."""

    def ask(self, call: Call) -> Call:
        api, name = self.user.api, call.key
        answer: Any
        if call.kind is Kind.READ:
            answer = api.GetModel(pb.GetModelRequest(model=name))
        elif call.kind is Kind.CREATE:
            answer = api.CreateModel(pb.CreateModelRequest(model=name, description=call.value))
        else:
            request = pb.UpdateModelRequest(model=name, description=call.value, etag=call.expected)
            answer = api.UpdateModel(request)
        return replace(call, value=answer.model.description, etag=answer.model.etag)


class Aliases(Register):
    """An alias; its value is its target."""

    def ask(self, call: Call) -> Call:
        if call.kind is Kind.READ:
            alias = self.user.alias("aliased", call.key)
        else:
            etag = "" if call.kind is Kind.PUT else call.expected
            alias = self.user.point("aliased", call.value, alias=call.key, etag=etag)
        return replace(call, value=alias.target_version, etag=alias.etag)
