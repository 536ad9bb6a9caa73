"""Attempts over HTTP: every route that is served, with the owner's values in its path, its query and its body.

Invariant: a route that is new is tried without a line of ours, and a test fails where it takes a body and none is known.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from gateway.http.app import ROUTES
from gateway.http.routes import Route
from tests.security.crossing.attempts import forged
from tests.security.crossing.guesses import GUESSES
from tests.security.crossing.likeness import alike, shape
from tests.security.crossing.treasure import Treasure

# A part in braces is a value of the owner's: of this name in the treasure, of the first that it has.
_PATH = {
    "store": ("vector_store", "collection"),
    "file": ("file", "document"),
    "name": ("model", "version"),
    "response": ("response",),
    "batch": ("batch",),
    "job": ("job",),
    "request_id": ("request_id",),
}
_TEMPLATE = [{"role": "user", "content": "Hello"}]
_FORM = "----trivium"
# By what follows /v1/.
BODIES: Mapping[str, Any] = {
    "chat/completions": {
        "model": "{model}",
        "messages": _TEMPLATE,
        "max_tokens": 1,
        "user": "{user}",
        "trivium": {"collections": ["{collection}"]},
    },
    "completions": {"model": "{model}", "prompt": "Hello", "max_tokens": 1},
    "embeddings": {"model": "{model}", "input": "ferry"},
    "files": "\r\n".join(
        (
            *(f"--{_FORM}", 'content-disposition: form-data; name="purpose"', "", "assistants"),
            *(f"--{_FORM}", 'content-disposition: form-data; name="file"; filename="{filename}"', "", "mine"),
            f"--{_FORM}--\r\n",
        )
    ),
    "batches": {"input_file_id": "{file}", "endpoint": "/v1/completions", "completion_window": "24h"},
    "batches/{batch}/cancel": {},
    "vector_stores": {"name": "mine", "file_ids": ["{file}"]},
    "vector_stores/{store}": {"name": "{vector_store}"},
    "vector_stores/{store}/search": {"query": "{document}"},
    "vector_stores/{store}/files": {"file_id": "{file}"},
    "vector_stores/{store}/files/{file}": {"attributes": {"of": "{file}"}},
    "vector_stores/{store}/file_batches": {"file_ids": ["{file}"]},
    "vector_stores/{store}/file_batches/{batch}/cancel": {},
    "fine_tuning/jobs": {"model": "{model}", "training_file": "{file}", "validation_file": "{file}"},
    "fine_tuning/jobs/{job}/cancel": {},
    "fine_tuning/jobs/{job}/pause": {},
    "fine_tuning/jobs/{job}/resume": {},
    "responses": {
        "model": "{model}",
        "input": "Hello",
        "max_output_tokens": 16,
        "previous_response_id": "{response}",
        "tools": [{"type": "file_search", "vector_store_ids": ["{vector_store}"]}],
    },
    "responses/input_tokens": {"model": "{model}", "input": "Hello", "previous_response_id": "{response}"},
    "responses/{response}/cancel": {},
    "trivium/replays": {"request_id": "{request_id}", "request": {"model": "base", "messages": _TEMPLATE}},
}
# Where a list goes on, or what else a query names.
_QUERIES = {"after": ("file", "batch", "job", "document"), "before": ("document",), "model": ("model",)}
_VARIES = {"x-request-id", "date", "content-length", "server"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of HTTP."""

    verb: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Knock:
    """An attempt at a route, and its twin; as :class:`~tests.security.crossing.attempts.Attempt`."""

    route: str
    request: Asked
    twin: Asked
    used: tuple[str, ...]
    made_up: tuple[str, ...]
    shape: Asked


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back: the number, the headers that are the same for the same answer, and the body.

    Number 0 is of an answer that was cut off: the connection ended before it did.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str

    @property
    def is_answer(self) -> bool:
        """Whether it was answered rather than refused."""
        return self.status == httpx.codes.OK

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def named(route: Route) -> str:
    """A route by verb and path, as a report has it."""
    return f"{route.verb} {route.path}"


def template(route: Route) -> Any:
    """What its body is made of; None where it has none.  Raises KeyError for a route that nobody has described."""
    below = route.path.removeprefix("/v1/").replace(":path}", "}")
    return BODIES[below] if route.verb == "POST" else None


class Knocker:
    """Draws attempts at routes."""

    def __init__(self, treasure: Treasure, owner_tenant: str, chance: random.Random) -> None:
        self._treasure = treasure
        self._owner = owner_tenant
        self._chance = chance

    def attempt(self, route: Route) -> Knock:
        """An attempt at a route."""
        places = list(dict.fromkeys([*_names_of(route), *_braces(json.dumps(template(route)))]))
        values = {name: self._value(name) for name in places}
        query = self._query(route)
        made_up = {it: alike(it, self._chance) for it in dict.fromkeys([*values.values(), *dict(query).values()]) if it}
        shapes = {value: shape(value) for value in made_up}

        def with_values(replaced: Mapping[str, str]) -> Asked:
            said = {name: replaced.get(value, value) for name, value in values.items()}
            asked = tuple((name, replaced.get(value, value)) for name, value in query)
            return Asked(route.verb, _path(route, said), asked, _body(template(route), said))

        own = Knock(named(route), with_values({}), with_values(made_up), (), (), with_values(shapes))
        return Knock(own.route, own.request, own.twin, tuple(made_up), tuple(made_up.values()), own.shape)

    def _value(self, name: str) -> str:
        kinds = _PATH.get(name, (name,))
        mine = [value for kind in kinds for value in self._treasure.named(kind)]
        drawn = self._chance.random()
        if drawn < 1 / 10 or not mine:
            return self._chance.choice(GUESSES)
        if drawn < 2 / 10:
            return self._chance.choice(self._treasure.all)
        value = self._chance.choice(mine)
        return self._chance.choice(forged(self._owner, name, value)) if drawn < 3 / 10 else value

    def _query(self, route: Route) -> tuple[tuple[str, str], ...]:
        fields = route.query.model_fields if route.query is not None else {}
        names = [name for name in _QUERIES if name in fields]
        if not names or self._chance.random() < 1 / 2:
            return ()
        # A list goes on behind something or before something.
        name = self._chance.choice(names)
        return ((name, self._value(self._chance.choice(_QUERIES[name]))),)


class Door:
    """The HTTP door, with one key."""

    def __init__(self, client: httpx.AsyncClient, key: str) -> None:
        self._client = client
        self._headers = {"authorization": f"Bearer {key}"}

    async def ask(self, asked: Asked) -> Heard:
        """Ask once."""
        kind = f"multipart/form-data; boundary={_FORM}" if asked.body.startswith("--") else "application/json"
        headers = {**self._headers, **({"content-type": kind} if asked.body else {})}
        try:
            answer = await self._client.request(
                asked.verb, asked.path, params=asked.query, content=asked.body or None, headers=headers
            )
        except httpx.TransportError as error:
            return Heard(0, (), type(error).__name__)
        kept = sorted((name, value) for name, value in answer.headers.items() if name not in _VARIES)
        return Heard(answer.status_code, tuple(kept), answer.text)


def _names_of(route: Route) -> Iterator[str]:
    return _braces(route.path.replace(":path}", "}"))


def _braces(text: str) -> Iterator[str]:
    for part in text.split("{")[1:]:
        name, ended, _ = part.partition("}")
        if ended and name.isidentifier():
            yield name


def _path(route: Route, said: Mapping[str, str]) -> str:
    path = route.path.replace(":path}", "}")
    for name in _names_of(route):
        path = path.replace(f"{{{name}}}", quote(said[name], safe=""))
    return path


def _body(made_of: Any, said: Mapping[str, str]) -> str:
    if made_of is None:
        return ""
    text = made_of if isinstance(made_of, str) else json.dumps(made_of)
    for name, value in said.items():
        text = text.replace(f"{{{name}}}", json.dumps(value)[1:-1])
    return text


def routes() -> tuple[Route, ...]:
    """Every route."""
    return ROUTES
