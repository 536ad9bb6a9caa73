"""A client that says for how long it waits is told when that is over, and is held to nothing that it did not say."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import httpx2
import openai
import pytest

from gateway.http.waiting import EXPECTED_MS
from tests.front import Front, Visitor
from tests.harness.timeouts import HANG_SECONDS

_WHOLE = {EXPECTED_MS: "1500"}
# As OpenAI's clients for Python and for Node say it.
_READS = [{"x-stainless-read-timeout": "1.5"}, {"x-stainless-timeout": "1.5"}]


@pytest.fixture(scope="module")
def asker(answering: Front) -> Visitor:
    return answering.newcomer()


def said(front: Front, visitor: Visitor, headers: dict[str, str], *, tokens: int = 20, stream: bool = False) -> Any:
    """An answer that takes a tenth of a second for each token, unless the client waits for less."""
    body = {"model": "base", "messages": [{"role": "user", "content": "Say it slowly"}], "max_tokens": tokens}
    headers = {"authorization": f"Bearer {visitor.key}", **headers}
    return httpx.post(
        f"{front.http}/chat/completions", json={**body, "stream": stream}, headers=headers, timeout=HANG_SECONDS
    )


def each_said(front: Front, visitor: Visitor, headers: list[dict[str, str]], **options: Any) -> list[Any]:
    """The answer under each of several headers, all waited for at the same time."""
    with ThreadPoolExecutor(len(headers)) as pool:
        return list(pool.map(lambda one: said(front, visitor, one, **options), headers))


def test_an_answer_that_would_come_after_it_is_given_up(answering: Front, asker: Visitor) -> None:
    # Whole, it would take longer than anybody here waits.
    answers = each_said(answering, asker, [_WHOLE, *_READS], tokens=1500)
    told = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
    assert told == [(504, "deadline_exceeded")] * 3


def begun(ask: Callable[[], Any]) -> Any:
    """A stream that has begun: before a machine that stalls says a first word, the client's time may be over."""
    for _ in range(10):
        answer = ask()
        if answer.status_code != 504:
            break
    assert answer.status_code == 200
    return answer


def test_a_stream_has_to_end_by_then(answering: Front, asker: Visitor) -> None:
    answer = begun(lambda: said(answering, asker, _WHOLE, tokens=100, stream=True))
    assert "deadline_exceeded" in answer.text
    assert "[DONE]" not in answer.text


def test_a_stream_may_last_longer_than_a_client_waits_for_its_next_byte(answering: Front, asker: Visitor) -> None:
    with ThreadPoolExecutor(len(_READS)) as pool:
        asks = [partial(said, answering, asker, headers, stream=True) for headers in _READS]
        for answer in pool.map(begun, asks):
            assert "[DONE]" in answer.text


def test_what_is_no_time_says_nothing(answering: Front, asker: Visitor) -> None:
    values = ["", "0", "-1", "soon", "nan", "inf", "1e999"]
    headers = [{EXPECTED_MS: value, **{name: value for names in _READS for name in names}} for value in values]
    answers = each_said(answering, asker, headers, tokens=1)
    assert {value: answer.status_code for value, answer in zip(values, answers, strict=True)} == dict.fromkeys(
        values, 200
    )


def test_the_client_for_python_says_it(answering: Front, asker: Visitor) -> None:
    asked: list[httpx2.Request] = []
    watched = httpx2.Client(event_hooks={"request": [asked.append]})
    with openai.OpenAI(base_url=answering.http, api_key=asker.key, http_client=watched, timeout=7.5) as client:
        client.chat.completions.create(model="base", messages=[{"role": "user", "content": "Hello"}])
    assert float(asked[0].headers["x-stainless-read-timeout"]) == 7.5
