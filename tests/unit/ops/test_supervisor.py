"""The supervisor with real child processes: order, restarts, nothing left behind (promise 1 stands on it)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.ops.supervisor import record
from services.ops.supervisor.record import ServiceState, SuiteRecord, SuiteState

TINY_SUITE = Path(__file__).with_name("tiny_suite.py")
CHECKOUT = Path(__file__).parents[3]
CHAIN: list[dict] = [{"name": "first"}, {"name": "second", "after": ["first"]}, {"name": "third", "after": ["second"]}]


@contextmanager
def started(folder: Path, programs: list[dict]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, TINY_SUITE, folder, json.dumps(programs)], cwd=CHECKOUT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = 200.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"never came true: {what}"
        # A loop without a pause would take the core that the services need to start.
        time.sleep(0.01)


def word(folder: Path) -> SuiteRecord:
    until(lambda: record.read(folder) is not None, "the suite says something")
    said = record.read(folder)
    assert said is not None
    return said


def ready(folder: Path) -> SuiteRecord:
    until(lambda: word(folder).state is SuiteState.READY, "everything serves")
    return word(folder)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def history(folder: Path) -> list[str]:
    return (folder / "history").read_text().splitlines()


def test_services_start_in_the_order_of_their_dependencies_and_stop_in_reverse(tmp_path: Path) -> None:
    with started(tmp_path, [CHAIN[2], CHAIN[1], CHAIN[0]]) as supervisor:
        ready(tmp_path)
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(200) == 0
    assert history(tmp_path) == [
        "first begins", "second begins", "third begins", "third ends", "second ends", "first ends",
    ]  # fmt: skip


def test_a_service_that_is_asked_and_not_waited_for_stops_after_who_asks_it(tmp_path: Path) -> None:
    door = {"name": "first", "after": ["second"], "asks": ["third"], "flags": ["--slow"]}
    with started(tmp_path, [door, {"name": "second"}, {"name": "third", "flags": ["--unready"]}]) as supervisor:
        until(lambda: word(tmp_path).services["first"].state is ServiceState.SERVING, "the door serves")
        until(lambda: len(history(tmp_path)) == 3, "all have begun")
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(200) == 0
    first, *others = history(tmp_path)[3:]
    assert (first, sorted(others)) == ("first ends", ["second ends", "third ends"])


def test_a_killed_service_is_restarted_on_the_same_address_and_the_others_are_not(tmp_path: Path) -> None:
    with started(tmp_path, CHAIN):
        before = ready(tmp_path).services
        os.kill(before["second"].pid, signal.SIGKILL)
        until(
            lambda: (
                (now := word(tmp_path).services["second"]).state is ServiceState.SERVING
                and now.pid != before["second"].pid
            ),
            "second serves again",
        )
        after = word(tmp_path).services
        assert after["second"].restarts == 1
        assert after["second"].admin_listen == before["second"].admin_listen
        assert (after["first"].pid, after["third"].pid) == (before["first"].pid, before["third"].pid)


def test_a_service_that_never_comes_up_ends_the_suite_with_its_last_words(tmp_path: Path) -> None:
    with started(tmp_path, [CHAIN[0], {"name": "second", "after": ["first"], "flags": ["--stillborn"]}]) as supervisor:
        assert supervisor.wait(200) == 1
    assert history(tmp_path).count("second begins") == 3
    assert history(tmp_path)[-1] == "first ends"
    assert "second says hello" in (tmp_path / "logs" / "second.log").read_text()


def test_a_service_that_is_never_ready_is_given_up_after_its_time(tmp_path: Path) -> None:
    with started(tmp_path, [{"name": "first", "flags": ["--unready"], "ready_seconds": 0.5}]) as supervisor:
        assert supervisor.wait(200) == 1


def test_a_service_that_ignores_the_request_to_stop_is_killed(tmp_path: Path) -> None:
    with started(tmp_path, [{"name": "first", "flags": ["--deaf"], "stop_seconds": 1.0}]) as supervisor:
        pid = ready(tmp_path).services["first"].pid
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(200) == 0
    assert not alive(pid)


def test_asked_twice_the_suite_stops_at_once(tmp_path: Path) -> None:
    with started(tmp_path, [{"name": "first", "flags": ["--deaf"], "stop_seconds": 600.0}]) as supervisor:
        pid = ready(tmp_path).services["first"].pid
        supervisor.send_signal(signal.SIGINT)
        until(lambda: word(tmp_path).state is SuiteState.STOPPING, "it stops")
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(200) == 0
    assert not alive(pid)


def test_what_a_killed_service_had_started_is_ended_even_from_a_session_of_its_own(tmp_path: Path) -> None:
    with started(tmp_path, [{"name": "first", "flags": ["--litter"]}]):
        first = ready(tmp_path).services["first"]
        litter = int((tmp_path / "litter").read_text())
        assert alive(litter)
        os.kill(first.pid, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(litter), "the orphan is ended and reaped")


def test_nothing_survives_the_supervisors_own_death(tmp_path: Path) -> None:
    with started(tmp_path, CHAIN) as supervisor:
        pids = [service.pid for service in ready(tmp_path).services.values()]
        everything = [process.pid for process in psutil.Process(supervisor.pid).children(recursive=True)]
        assert set(pids) <= set(everything)
        supervisor.kill()
        supervisor.wait()
        until(lambda: not any(alive(pid) for pid in everything), "services and guardians are gone")


def test_two_suites_run_side_by_side(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    with started(left, CHAIN[:2]), started(right, CHAIN[:2]):
        ports = [{service.admin_listen for service in ready(folder).services.values()} for folder in (left, right)]
        assert not ports[0] & ports[1]


def test_a_second_supervisor_on_the_same_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with started(tmp_path, CHAIN[:1]) as supervisor:
        pid = ready(tmp_path).pid
        with pytest.raises(record.AlreadyRunningError, match=rf"\bpid {pid}\b"):
            with record.held(tmp_path):
                pass
        assert record.read_running(tmp_path) is not None
        supervisor.kill()
        supervisor.wait()
    # The state that a killed supervisor leaves behind is not trusted.
    assert record.read(tmp_path) is not None
    assert record.read_running(tmp_path) is None
    with record.held(tmp_path):
        pass


def test_the_record_names_a_process_only_while_its_number_is_not_another_ones(tmp_path: Path) -> None:
    mine = psutil.Process()
    said = SuiteRecord(mine.pid, mine.create_time(), str(tmp_path), SuiteState.READY)
    assert record.is_ours(said)
    assert not record.is_ours(SuiteRecord(mine.pid, mine.create_time() - 60, str(tmp_path), SuiteState.READY))
