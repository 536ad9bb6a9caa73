"""What somebody who asks on the command line sees while nothing comes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from trivium_client import ServerError
from trivium_client.answers import Part, Text
from trivium_client.cli import asking


class Silence:
    """A timer whose time is over when a test says so."""

    def __init__(self, seconds: float, function: Callable[..., None], args: tuple[Any, ...] = ()) -> None:
        self._function, self._args, self._awaited = function, args, False
        started.append(self)

    def start(self) -> None:
        self._awaited = True

    def cancel(self) -> None:
        self._awaited = False

    def run_out(self) -> None:
        if self._awaited:
            self._function(*self._args)


started: list[Silence] = []


class Slow:
    """A client whose answer breaks off, with a long silence before its first word or behind it."""

    def __init__(self, *, before: bool) -> None:
        self._before = before

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def chat(self, *arguments: Any, **fields: Any) -> Iterator[Part]:
        if self._before:
            started[-1].run_out()
        yield Text("so")
        started[-1].run_out()


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "Timer", Silence)


@pytest.mark.parametrize("before", [True, False])
def test_a_long_silence_before_an_answer_is_explained_apart_from_it(
    before: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "Trivium", lambda: Slow(before=before))
    with pytest.raises(ServerError):
        asking.chat("Hi", model="house@1")
    shown = capsys.readouterr()
    assert shown.out == "so"
    assert ("house@1" in shown.err) is before


def test_who_is_told_why_nothing_came_is_not_told_of_an_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*arguments: Any, **fields: Any) -> Iterator[Part]:
        raise ServerError("refused")
        yield

    client = Slow(before=False)
    monkeypatch.setattr(client, "chat", refused)
    monkeypatch.setattr(asking, "Trivium", lambda: client)
    with pytest.raises(ServerError):
        asking.chat("Hi")
    started[-1].run_out()
    assert capsys.readouterr().err == ""
