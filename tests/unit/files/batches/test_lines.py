"""Each bad line of a batch's input is named by its number and its fault, and good ones are requests."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.chassis import batch_lines
from services.chassis.batch_lines import MOST_LINE_BYTES
from services.files.batches.batch import Endpoint
from services.files.batches.lines import Request, checked, requests

CHAT = Endpoint.CHAT_COMPLETIONS


async def pieces(content: bytes, size: int = 7) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def line(**changes: Any) -> bytes:
    whole = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"model": "base"}, **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not None}).encode()


async def test_lines_keep_their_numbers_whatever_is_empty_between_them_and_however_they_are_cut():
    content = b"\n".join([line(custom_id="1"), b"", b"  ", line(custom_id="4", body={"model": "é"}), b""])
    for size in (1, 7, 10_000):
        found = [each async for each in requests(pieces(content, size), CHAT)]
        assert [(each.line, each.custom_id) for each in found if isinstance(each, Request)] == [(1, "1"), (4, "4")]
    # The last line needs no end.
    assert len([each async for each in requests(pieces(content.rstrip()), CHAT)]) == 2


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        (b"{", "invalid_json_line", ""),
        (b"[1]", "invalid_json_line", ""),
        (b"\xff", "invalid_json_line", ""),
        (b"[" * 100_000, "invalid_json_line", ""),
        (line(custom_id=None), "invalid_custom_id", "custom_id"),
        (line(custom_id=7), "invalid_custom_id", "custom_id"),
        (line(custom_id="x" * 513), "invalid_custom_id", "custom_id"),
        (line(method="GET"), "invalid_method", "method"),
        (line(url="/v1/embeddings"), "invalid_url", "url"),
        (line(body="x"), "invalid_body", "body"),
        (line(body={"stream": True}), "invalid_request", "body.stream"),
        (line(body={"trivium": {"request_id": "x"}}), "invalid_request", "body.trivium.request_id"),
        (line(colour="red"), "unknown_parameter", "colour"),
        # JSON can spell half of a character, and Python reads what JSON has no word for: nobody could be asked these.
        (line(custom_id="\ud800"), "invalid_json_line", ""),
        (line(body={"prompt": "\ud800"}), "invalid_json_line", ""),
        (line(**{"\ud800": 1}), "invalid_json_line", ""),
        (line(body={"temperature": float("nan")}), "invalid_json_line", ""),
    ],
)
async def test_a_bad_line_is_named(text: bytes, code: str, param: str):
    found = await checked(pieces(line(custom_id="good") + b"\n" + text), CHAT)
    (problem,) = found.problems
    assert (problem.line, problem.code, problem.param) == (2, code, param)
    assert found.total == 2


async def test_a_model_is_told_as_a_database_can_keep_it():
    for given, told in (("a\0b", "ab"), ("x" * 300, "x" * 256), (7, ""), ({"a": 1}, "")):
        assert (await checked(pieces(line(body={"model": given})), CHAT)).model == told


async def test_a_custom_id_stands_once():
    found = await checked(pieces(b"\n".join([line(), line(custom_id="b"), line()])), CHAT)
    assert [(each.line, each.code) for each in found.problems] == [(3, "duplicate_custom_id")]


async def test_a_line_without_end_fills_no_memory_and_the_next_is_read():
    endless = b"x" * (2 * MOST_LINE_BYTES)
    found = [each async for each in batch_lines.lines(pieces(endless + b"\ny", 1 << 16))]
    assert [(number, len(text)) for number, text in found] == [(1, MOST_LINE_BYTES + 1), (2, 1)]
    checked_ = await checked(pieces(endless + b"\n" + line(), 1 << 16), CHAT)
    assert [(each.line, each.code) for each in checked_.problems] == [(1, "line_too_long")]


async def test_nothing_and_too_much_are_refused_and_of_many_bad_lines_the_first_are_named():
    assert [each.code for each in (await checked(pieces(b"\n\n"), CHAT)).problems] == ["empty_file"]
    many = b"\n".join(line(custom_id=str(n)) for n in range(4))
    found = await checked(pieces(many + b"\n{" * 1000), CHAT, most_lines=3)
    # Nothing is read behind the first that is too many.
    assert ([each.code for each in found.problems], found.total) == (["too_many_requests"], 4)
    bad = await checked(pieces(b"\n".join([b"{"] * 60)), CHAT)
    assert (len(bad.problems), bad.problems[-1].code) == (51, "more_problems")
    assert bad.problems[-1].message.startswith("10 ")
