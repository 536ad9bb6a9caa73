"""Long work of a service is waited for while the service says that it goes on, and never without end."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

import pytest
from trivium_client.errors import ConflictError, RequestTimeoutError
from trivium_client.importing import until_done

from tests.harness.timeouts import HANG_SECONDS
from tests.harness.wording import missing


class Service:
    """Answers each call as the next of its lines says, and every later one as the last."""

    def __init__(self, answers: Iterable[BaseException | str]) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        answer = self._answers[min(self.calls, len(self._answers) - 1)]
        self.calls += 1
        if isinstance(answer, BaseException):
            raise answer
        return answer


def out_of_time() -> RequestTimeoutError:
    return RequestTimeoutError("Deadline Exceeded", reason="DEADLINE_EXCEEDED")


def under_way(progress: str) -> ConflictError:
    return ConflictError(
        "The import goes on", reason="WORK_UNDER_WAY", variables={"progress": progress}, retry_after_seconds=0.01
    )


async def given_up(service: Service, **bounds: Any) -> RequestTimeoutError:
    """The error that ends the waiting; the test fails when nothing ends it."""
    async with asyncio.timeout(HANG_SECONDS):
        with pytest.raises(RequestTimeoutError) as raised:
            await until_done(
                service,
                "The import of hf:org/name into desk",
                **{"timeout_seconds": 600, "silence_seconds": 600, **bounds},
            )
    return raised.value


async def test_calls_that_only_run_into_their_deadlines_are_given_up_and_the_error_says_what_to_do() -> None:
    service = Service([out_of_time()])
    error = await given_up(service, silence_seconds=0.3, again_seconds=0.0, clock=count(0.0, 0.125).__next__)
    assert service.calls > 1
    assert error.reason == "WAIT_TIMEOUT"
    for part in ("The import of hf:org/name into desk", " 0.", "trivium status"):
        assert part in error.message


def clock_of_slow_calls() -> Callable[[], float]:
    """A clock that is 40 s later whenever it is read."""
    return count(40.0, 40.0).__next__


async def test_a_service_that_is_heard_of_between_two_timeouts_is_not_silent() -> None:
    """Each silence is counted from what was heard last, or ten short ones would be a long one."""
    lines = [line for step in range(10) for line in (out_of_time(), under_way(f"{step} of 10"))]
    service = Service([*lines, "the version"])
    async with asyncio.timeout(HANG_SECONDS):
        made = await until_done(
            service, "the import", silence_seconds=100, again_seconds=0.0, clock=clock_of_slow_calls()
        )
    assert (made, service.calls) == ("the version", 21)


async def test_a_service_that_was_heard_of_once_is_silent_from_then_on() -> None:
    service = Service([under_way("half"), out_of_time()])
    error = await given_up(service, silence_seconds=100, again_seconds=0.0, clock=clock_of_slow_calls())
    assert service.calls == 4
    assert "120 s" in error.message
    assert error.variables["progress"] == "half"


async def test_work_that_never_ends_is_given_up_at_the_deadline_of_the_whole_and_the_last_word_is_told() -> None:
    error = await given_up(Service([under_way("3 of 9 MiB are here")]), timeout_seconds=0.2)
    assert not missing(error.message, "0.2 s", "3 of 9 MiB are here")
    assert error.variables["progress"] == "3 of 9 MiB are here"


async def test_the_deadline_of_the_whole_holds_in_the_midst_of_a_call_and_before_that_of_silence() -> None:
    async def hangs() -> str:
        await asyncio.Event().wait()
        return "never"

    async with asyncio.timeout(HANG_SECONDS):
        with pytest.raises(RequestTimeoutError, match=r"the merge .*\b0\.1 s"):
            await until_done(hangs, "the merge", timeout_seconds=0.1, silence_seconds=3600)


async def test_one_timeout_is_asked_again_and_other_conflicts_are_told_at_once() -> None:
    assert await until_done(Service([out_of_time(), "the version"]), "the merge") == "the version"
    service = Service([ConflictError("is there", reason="ALREADY_EXISTS")])
    with pytest.raises(ConflictError) as told:
        await until_done(service, "the merge")
    assert told.value.reason == "ALREADY_EXISTS"
    assert service.calls == 1
