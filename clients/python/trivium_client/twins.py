"""How one call is made of another: a stream's that answers whole, and of each asynchronous one that for ordinary code.

Invariant: a twin has the parameters, the defaults and the docstring of the call that it hands over to, for type checkers
and at run time alike, because it is made of it: neither can be changed without the other.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from trivium_client import answers
from trivium_client.loop import Loop

P = ParamSpec("P")
T = TypeVar("T")
Owner = TypeVar("Owner")
Method = TypeVar("Method", bound=Callable[..., Any])
# Covariant, so that a twin of a base class's call serves whoever is made of the whole.
Inner_co = TypeVar("Inner_co", covariant=True)


class Face(Generic[Inner_co]):
    """Part of the synchronous SDK: a part of the asynchronous one, and the loop that drives it."""

    def __init__(self, loop: Loop, inner: Inner_co) -> None:
        self._loop = loop
        self._inner = inner


def awaited(
    call: Callable[Concatenate[Inner_co, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Face[Inner_co], P], T]:
    """The method that waits for what `call` returns."""

    @functools.wraps(call)
    def method(face: Face[Inner_co], /, *arguments: P.args, **options: P.kwargs) -> T:
        return face._loop.run(call(face._inner, *arguments, **options))

    return _described(method, call, _returned(call))


def iterated(
    call: Callable[Concatenate[Inner_co, P], AsyncIterator[T]],
) -> Callable[Concatenate[Face[Inner_co], P], Generator[T]]:
    """The method that draws from what `call` iterates over; leaving it early closes that."""

    @functools.wraps(call)
    def method(face: Face[Inner_co], /, *arguments: P.args, **options: P.kwargs) -> Generator[T]:
        return face._loop.iterate(call(face._inner, *arguments, **options))

    # AsyncIterator[Hit] is drawn from as Iterator[Hit].
    return _described(method, call, _returned(call).removeprefix("Async"))


def gathered(
    call: Callable[Concatenate[Owner, P], AsyncIterator[answers.Part]], name: str
) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, answers.Answer]]:
    """The asynchronous method of this name that makes one answer of the parts that `call` streams."""

    @functools.wraps(call)
    async def method(owner: Owner, /, *arguments: P.args, **options: P.kwargs) -> answers.Answer:
        gathering = answers.Gathering()
        async for part in call(owner, *arguments, **options):
            gathering.add(part)
        return gathering.answer()

    described: Any = method
    described.__qualname__ = described.__qualname__.replace(described.__name__, name)
    described.__doc__ = f"`{described.__name__}`, whole: takes the same."
    described.__name__ = name
    return _described(method, call, "answers.Answer")


def _returned(call: Callable[..., Any]) -> str:
    """What a call says that it returns, as it is written (`from __future__ import annotations`)."""
    return str(inspect.signature(call).return_annotation)


def _described(method: Method, call: Callable[..., Any], returned: str) -> Method:
    """The same, with the signature of `call`, but for what comes back."""
    described: Any = method
    described.__signature__ = inspect.signature(call).replace(return_annotation=returned)
    described.__annotations__ = {**call.__annotations__, "return": returned}
    return method
