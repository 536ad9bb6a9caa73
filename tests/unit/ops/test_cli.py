"""The suite's commands where no suite can run: what they say, and how they end."""

import io
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from trivium_client.cli.exits import Exit

from services.ops.cli import _detached
from services.ops.supervisor import launching, view
from services.ops.supervisor.doors import settled
from services.ops.supervisor.record import ServiceRecord, ServiceState, SuiteRecord, SuiteState
from tests.harness.command_line import Ran, run_in_process
from tests.harness.wording import missing

CHECKOUT = Path(__file__).parents[3]


def trivium(folder: Path, *arguments: str, **variables: str) -> Ran:
    return run_in_process(
        *arguments, environment={"TRIVIUM_DATA_DIR": str(folder), "COLUMNS": "200", **variables}, cwd=CHECKOUT
    )


def test_a_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        ended = trivium(tmp_path, "up", TRIVIUM_ACCESS_LISTEN=address)
    assert ended.code == Exit.REFUSED
    assert "Nothing" in ended.err
    assert not missing(ended.err, address, "access", "TRIVIUM_ACCESS_LISTEN", f"pid {os.getpid()}")
    assert "trivium up --free-ports" in ended.err
    assert not (tmp_path / "logs").exists()


def test_status_of_nothing_says_how_to_start_and_ends_with_unavailable(tmp_path: Path) -> None:
    ended = trivium(tmp_path, "status")
    assert ended.code == Exit.UNAVAILABLE
    assert "trivium up" in ended.out
    assert json.loads(trivium(tmp_path, "status", "--json").out)["state"] == "stopped"


def test_a_process_says_and_ends_with_the_same(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.ops", "status", "--json"],
        cwd=CHECKOUT,
        env={**os.environ, "TRIVIUM_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == Exit.UNAVAILABLE
    assert json.loads(ended.stdout)["state"] == "stopped"


def test_the_table_of_a_suite_shows_the_openai_door_whole_on_a_narrow_terminal() -> None:
    gateway = ServiceRecord(
        "gateway", ServiceState.SERVING, 0.0, 4194304, 12, listen="127.0.0.1:40001", http_listen="127.0.0.1:40002"
    )
    access = ServiceRecord("access", ServiceState.SERVING, 0.0, 1, listen="127.0.0.1:40003")
    record = SuiteRecord(1, 0.0, "/data", SuiteState.READY, services={"access": access, "gateway": gateway})
    shown = io.StringIO()
    Console(file=shown, width=80).print(view.table(record))
    assert "http://127.0.0.1:40002/v1" in shown.getvalue()
    assert "127.0.0.1:40001" in shown.getvalue()
    assert shown.getvalue().count("http://") == 1


def test_a_door_with_a_certificate_is_shown_as_https() -> None:
    doors = settled(["gateway"], free=False, environment={"TRIVIUM_GATEWAY_HTTP_TLS_CERT_FILE": "http.pem"})["gateway"]
    gateway = ServiceRecord(
        "gateway", ServiceState.SERVING, 0.0, http_listen=doors.http_listen, http_scheme=doors.http_scheme
    )
    record = SuiteRecord(1, 0.0, "/data", SuiteState.READY, services={"gateway": gateway})
    assert "OpenAI-compatible https://127.0.0.1:8080/v1\n" in view.welcome(record)


def test_down_with_nothing_running_is_no_failure(tmp_path: Path) -> None:
    ended = trivium(tmp_path, "down")
    assert (ended.code, missing(ended.out, tmp_path)) == (Exit.OK, [])


def test_logs_of_an_unknown_service_lists_those_there_are(tmp_path: Path) -> None:
    ended = trivium(tmp_path, "logs", "generater")
    assert ended.code == Exit.NOT_FOUND
    assert "generator" in ended.err


def test_logs_prints_the_end_of_each_file_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "access.log").write_text("one\ntwo\nthree\n")
    assert trivium(tmp_path, "logs", "-n", "2").out == "access     two\naccess     three\n"
    assert trivium(tmp_path, "logs", "access", "-n", "1").out == "three\n"


def test_logs_of_a_suite_that_never_ran_says_so(tmp_path: Path) -> None:
    ended = trivium(tmp_path, "logs")
    assert (ended.code, ended.out) == (Exit.OK, "")
    assert "trivium up" in ended.err


def test_the_doctor_finds_a_key_that_others_may_read(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "admin.key"
    key.parent.mkdir()
    key.write_text("tv_none_none\n")
    key.chmod(0o644)
    ended = trivium(tmp_path, "doctor", "--json")
    found = {finding["subject"]: finding for finding in json.loads(ended.out)}
    assert ended.code == Exit.FAILURE
    assert found["admin.key"]["verdict"] == "bad"
    assert f"chmod 600 {key}" in found["admin.key"]["text"]
    assert "tv_none" not in ended.out
    key.chmod(stat.S_IRUSR | stat.S_IWUSR)
    again = {finding["subject"]: finding for finding in json.loads(trivium(tmp_path, "doctor", "--json").out)}
    assert again["admin.key"]["verdict"] == "ok"


def test_help_ends_with_the_exit_codes(tmp_path: Path) -> None:
    for command in ("up", "down", "status", "doctor", "logs"):
        shown = trivium(tmp_path, command, "--help").out
        assert "Example: trivium" in shown
        for code in Exit:
            assert f"{int(code)} {code.about}" in " ".join(shown.split())


def test_who_starts_a_suite_detached_is_told_of_its_services_beside_what_it_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    access = ServiceRecord("access", ServiceState.SERVING, 0.0)
    ready = SuiteRecord(1, 0.0, "/data", SuiteState.READY, services={"access": access})

    def wait_ready(*_: object, progress: Callable[[SuiteRecord], None], **__: object) -> SuiteRecord:
        progress(ready)
        return ready

    monkeypatch.setattr(launching, "start", lambda *_, **__: None)
    monkeypatch.setattr(launching, "wait_ready", wait_ready)
    _detached(tmp_path, free_ports=True)
    shown = capsys.readouterr()
    assert shown.err.split() == ["0.0", "s", "access", "serving"]
    assert shown.out.startswith("Trivium is up")


def test_who_waits_for_a_suite_sees_each_service_come_up_once() -> None:
    waiting = ServiceRecord("access", ServiceState.WAITING, 0.0)
    serving = ServiceRecord("access", ServiceState.SERVING, 0.0)
    shown = io.StringIO()
    with view.shown(Console(file=shown, width=80)) as observer:
        hear = view.changes(observer)
        for service in (waiting, serving, serving):
            hear(SuiteRecord(1, 0.0, "/data", SuiteState.STARTING, services={"access": service}))
    (line,) = shown.getvalue().splitlines()
    assert line.split() == ["0.0", "s", "access", "serving"]
