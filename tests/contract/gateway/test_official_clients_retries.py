"""What OpenAI's client does by itself when the gateway says no: it comes again when told to, and only then."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx2
import openai
import pytest

from tests.front import Front, Visitor

HELLO: Any = [{"role": "user", "content": "Hello"}]


class Asked:
    """The client with its requests counted, each with what came of it."""

    def __init__(self, client: openai.OpenAI, answers: list[tuple[float, httpx2.Response]]) -> None:
        self.client = client
        self.answers = answers

    @property
    def seconds_between(self) -> list[float]:
        """How long it waited before each repeat."""
        times = [moment for moment, _ in self.answers]
        return [later - sooner for sooner, later in pairwise(times)]


@contextmanager
def asking(front: Front, key: str, **options: Any) -> Iterator[Asked]:
    """The client at the gateway's door, open inside the block."""
    answers: list[tuple[float, httpx2.Response]] = []
    watched = httpx2.Client(event_hooks={"response": [lambda it: answers.append((time.monotonic(), it))]})
    with openai.OpenAI(base_url=front.http, api_key=key, http_client=watched, **options) as client:
        yield Asked(client, answers)


def test_it_comes_again_after_the_seconds_that_it_was_told(front: Front, visitor: Visitor) -> None:
    with asking(front, visitor.key, max_retries=1) as asked, pytest.raises(openai.InternalServerError) as refused:
        asked.client.chat.completions.create(model="base", messages=HELLO)
    assert (refused.value.status_code, refused.value.code) == (503, "peer_unavailable")
    assert refused.value.request_id
    first = asked.answers[0][1]
    assert (first.headers["retry-after"], first.headers["x-should-retry"]) == ("1", "true")
    assert len(asked.answers) == 2
    assert asked.seconds_between[0] >= 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda client: client.models.retrieve("nobodys"), openai.NotFoundError),
        (
            lambda client: client.chat.completions.create(model="base", messages=HELLO, store=True),
            openai.BadRequestError,
        ),
        (lambda client: client.get("/nowhere", cast_to=object), openai.NotFoundError),
    ],
)
def test_what_would_fail_the_same_way_is_asked_once(front: Front, visitor: Visitor, call: Any, error: Any) -> None:
    with asking(front, visitor.key, max_retries=3) as asked, pytest.raises(error) as refused:
        call(asked.client)
    assert len(asked.answers) == 1
    assert refused.value.request_id
    assert refused.value.code


def test_a_wrong_key_is_asked_once(front: Front) -> None:
    with asking(front, "tv_wrong_key", max_retries=3) as asked, pytest.raises(openai.AuthenticationError):
        asked.client.models.list()
    assert len(asked.answers) == 1


def test_a_time_limit_of_the_clients_own_is_a_timeout_there(front: Front, visitor: Visitor) -> None:
    with asking(front, visitor.key, max_retries=0, timeout=0.0001) as asked, pytest.raises(openai.APITimeoutError):
        asked.client.chat.completions.create(model="base", messages=HELLO)
