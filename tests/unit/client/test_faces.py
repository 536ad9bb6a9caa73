"""The synchronous face takes and says what the asynchronous one does, and the words of enums survive both ways."""

import asyncio
import concurrent.futures
import gc
import inspect
import pydoc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from trivium.trainer.v1 import training_pb2
from trivium_client import AsyncTrivium, Trivium, settings_wire, wire
from trivium_client.loop import Loop, is_served_wakeup
from trivium_client.nouns import LoraSettings, TrainingSettings

NAMESPACES = (
    "collections",
    "docs",
    "sources",
    "data",
    "jobs",
    "sweeps",
    "recipes",
    "models",
    "keys",
    "tenants",
    "usage",
)


# What comes back of a call in place of what its twin returns.
RETURNED = {"AsyncIterator": "Iterator", "AsyncGenerator": "Generator"}


def public(kind: object) -> set[str]:
    return {name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


def pairs(client: Trivium) -> Iterator[tuple[str, Callable[..., object], Callable[..., object]]]:
    """Every call by its name, and its asynchronous twin."""
    faces = {"": client, **{namespace: getattr(client, namespace) for namespace in NAMESPACES}}
    for namespace, face in faces.items():
        for name in sorted(public(type(face)) - {"close"}):
            yield f"{namespace}.{name}".removeprefix("."), getattr(face, name), getattr(face._inner, name)


def test_every_call_of_the_asynchronous_sdk_is_in_the_synchronous_one() -> None:
    with Trivium(api_key="k") as client:
        assert public(AsyncTrivium) == public(Trivium)
        for namespace in NAMESPACES:
            face = getattr(client, namespace)
            assert public(face) == public(face._inner), namespace


def test_every_call_has_the_signature_and_the_help_of_its_asynchronous_twin() -> None:
    with Trivium(api_key="k") as client:
        for name, call, twin in pairs(client):
            mine, other = inspect.signature(call), inspect.signature(twin)
            assert list(mine.parameters.values()) == list(other.parameters.values()), name
            kind, bracket, what = other.return_annotation.partition("[")
            assert mine.return_annotation == RETURNED.get(kind, kind) + bracket + what, name
            loose = [it for it in mine.parameters.values() if it.kind in (it.VAR_KEYWORD, it.VAR_POSITIONAL)]
            # Those that a typed dictionary names are known to editors and type checkers.
            assert all(str(it.annotation).startswith("Unpack[") for it in loose), name
            assert inspect.getdoc(call) == inspect.getdoc(twin), name
            assert not inspect.iscoroutinefunction(call), name
        shown = pydoc.plain(pydoc.render_doc(client.docs.add))
        assert "add(path: 'str | Path', *, collection: 'str', document: 'str' = ''" in shown
        assert str(inspect.getdoc(client.docs.add)).splitlines()[0] in shown


def test_an_argument_that_there_is_not_is_refused_before_anything_is_asked() -> None:
    """Once by the type checker, which complains of an ignored error that is none, and once at run time."""
    with Trivium(api_key="k") as client:
        with pytest.raises(TypeError, match="colection"):
            client.docs.add("leave.md", colection="handbook")  # type: ignore[call-arg]  # a misspelt argument
        with pytest.raises(TypeError, match="readers"):
            client.docs.search_pages("leave", collections="handbook", readers=())  # type: ignore[call-arg]  # not its own
        with pytest.raises(TypeError, match="modle"):
            client.answer("How many days?", modle="desk")  # type: ignore[call-arg]  # a misspelt argument


def test_leaving_an_iterator_early_closes_its_source() -> None:
    loop = Loop()
    closed = threading.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = loop.iterate(endless())
    assert next(items) == 1
    items.close()
    assert closed.is_set()
    loop.stop()


def test_an_interrupt_while_an_item_is_awaited_closes_its_source_and_is_all_that_is_raised() -> None:
    # A run in the background of a shell begins without: the interrupt would be ignored, and the wait for ever.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    loop = Loop()
    heard = complaints_of(loop)
    closed: list[bool] = []
    main = threading.main_thread().ident
    assert main is not None

    async def silent() -> AsyncIterator[int]:
        try:
            signal.pthread_kill(main, signal.SIGINT)
            await asyncio.Event().wait()
            yield 1
        finally:
            # Closing takes turns of the loop.
            for _ in range(5):
                await asyncio.sleep(0)
            closed.append(True)

    try:
        with pytest.raises(KeyboardInterrupt):
            next(loop.iterate(silent()))
    finally:
        signal.signal(signal.SIGINT, before)
    loop.stop()
    assert (closed, heard) == ([True], [])


def test_an_item_that_is_none_is_not_the_end() -> None:
    loop = Loop()

    async def some() -> AsyncIterator[int | None]:
        yield None
        yield 1

    assert list(loop.iterate(some())) == [None, 1]
    loop.stop()


def complaints_of(loop: Loop) -> list[str]:
    """What the event loop complains of from now on, as asyncio would print it."""
    heard: list[str] = []
    loop._loop.set_exception_handler(
        lambda _, context: None if is_served_wakeup(context) else heard.append(context["message"])
    )
    return heard


@pytest.mark.parametrize("ends_by_itself", [True, False])
def test_no_task_is_left_in_a_loop_that_is_closed(ends_by_itself: bool) -> None:
    loop = Loop()
    heard = complaints_of(loop)
    ended: list[str] = []

    async def lingering() -> None:
        try:
            if not ends_by_itself:
                await asyncio.Event().wait()
            # Until another task is in the loop: that which empties it.
            while len(asyncio.all_tasks()) == 1:  # noqa: ASYNC110, a task that begins sets no event
                await asyncio.sleep(0)
            await asyncio.sleep(0)
            ended.append("by itself")
        except asyncio.CancelledError:
            ended.append("cancelled")

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(lingering())

    task = loop.run(begin())
    loop.stop(grace_seconds=30 if ends_by_itself else 0.01)
    assert task.done()
    del task
    gc.collect()
    assert (ended, heard) == (["by itself" if ends_by_itself else "cancelled"], [])


def test_a_source_that_is_left_half_read_is_closed_with_the_loop() -> None:
    loop = Loop()
    heard = complaints_of(loop)
    closed: list[bool] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            # Closing takes turns of the loop, as ending a call does.
            await asyncio.sleep(0)
            closed.append(True)

    items = loop.iterate(endless())
    assert next(items) == 1
    loop.stop()
    items.close()
    assert (closed, heard) == ([True], [])


def test_what_another_thread_waits_for_is_cancelled_when_the_loop_is_closed() -> None:
    loop = Loop()
    heard = complaints_of(loop)
    reading = threading.Event()

    async def silent() -> AsyncIterator[int]:
        reading.set()
        await asyncio.Event().wait()
        yield 1

    def read() -> None:
        with pytest.raises(concurrent.futures.CancelledError):
            next(loop.iterate(silent()))
        heard.append("the reader was let go")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert reading.wait(30)
    # More than the test may take: what this loop began is not waited for.
    loop.stop(grace_seconds=3600)
    reader.join(30)
    assert heard == ["the reader was let go"]


def test_settings_survive_the_wire_and_what_is_unset_stays_unset() -> None:
    settings = TrainingSettings(method="rslora", schedule="cosine", lora=LoraSettings(rank=8), epochs=2, seed=0)
    there_and_back = settings_wire.settings(settings_wire.settings_to_wire(settings))
    assert there_and_back == settings
    assert there_and_back.learning_rate is None


def test_an_unknown_word_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="lora, rslora"):
        settings_wire.settings_to_wire(TrainingSettings(method="lroa"))


def test_an_enum_value_newer_than_the_client_is_shown_as_its_number() -> None:
    assert wire.word(training_pb2.JobState, 99) == "99"


def test_a_wake_up_that_another_loop_took_is_not_told_and_all_else_is(caplog: pytest.LogCaptureFixture) -> None:
    class PollerCompletionQueue:
        def handle_events(self) -> None:
            raise BlockingIOError(11, "nothing to read")

    def broken() -> None:
        raise BlockingIOError(11, "of somebody else")

    loop = Loop()

    async def called() -> None:
        running = asyncio.get_running_loop()
        running.call_soon(PollerCompletionQueue().handle_events)
        running.call_soon(broken)
        await asyncio.sleep(0.01)

    loop.run(called())
    loop.stop()
    (told,) = [record for record in caplog.records if record.name == "asyncio"]
    assert "broken" in told.getMessage()
