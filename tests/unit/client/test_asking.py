"""What somebody who asks on the command line sees while nothing comes."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from trivium_client import ServerError
from trivium_client.answers import Part, Text
from trivium_client.cli import asking

SECONDS = 0.2


class Slow:
    """A client whose answers come after some seconds, and break off: the silence itself is what is tested."""

    def __init__(self, before: float, between: float) -> None:
        self._before = before
        self._between = between

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def chat(self, *arguments: Any, **fields: Any) -> Iterator[Part]:
        time.sleep(self._before)
        yield Text("so")
        time.sleep(self._between)


@pytest.mark.parametrize(("before", "between", "said"), [(2 * SECONDS, 0.0, True), (0.0, 2 * SECONDS, False)])
def test_a_long_silence_before_an_answer_is_explained_apart_from_it(
    before: float, between: float, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "Trivium", lambda: Slow(before, between))
    monkeypatch.setattr(asking, "_SILENCE_SECONDS", SECONDS)
    with pytest.raises(ServerError):
        asking.chat("Hi", model="house@1")
    shown = capsys.readouterr()
    assert shown.out == "so"
    assert ("house@1" in shown.err) is said


def test_who_is_told_why_nothing_came_is_not_told_of_an_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: Any, **fields: Any) -> Iterator[Part]:
        raise ServerError("refused")
        yield

    client = Slow(0.0, 0.0)
    monkeypatch.setattr(client, "chat", refused)
    monkeypatch.setattr(asking, "Trivium", lambda: client)
    monkeypatch.setattr(asking, "_SILENCE_SECONDS", SECONDS)
    with pytest.raises(ServerError):
        asking.chat("Hi")
    # Past the moment at which the word would come: that nothing comes has no event.
    time.sleep(2 * SECONDS)
    assert capsys.readouterr().err == ""
