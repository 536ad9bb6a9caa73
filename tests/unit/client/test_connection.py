"""Where the client finds services and its key: arguments, then the environment, then what a local suite wrote down."""

import json
from pathlib import Path

import pytest
from trivium_client.connection import Connection

from tests.harness.wording import missing

CERTIFICATES = ("TLS_CA_FILE", "TLS_CERT_FILE", "TLS_KEY_FILE")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "API_KEY_FILE", "DATA_DIR", "GATEWAY_ADDRESS", *CERTIFICATES):
        monkeypatch.delenv(f"TRIVIUM_{name}", raising=False)


def test_without_anything_the_default_ports_and_no_key_are_taken(tmp_path: Path) -> None:
    connection = Connection.settled(data_dir=tmp_path)
    assert connection.addresses["gateway"] == "127.0.0.1:50050"
    assert connection.metadata == ()


def test_a_local_suite_is_found_by_its_run_files_and_its_key(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gateway.json").write_text(json.dumps({"listen": "127.0.0.1:4242"}))
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "admin.key").write_text("tv_a_b\n")
    connection = Connection.settled(data_dir=tmp_path)
    assert connection.addresses["gateway"] == "127.0.0.1:4242"
    assert connection.metadata == (("authorization", "Bearer tv_a_b"),)


def test_the_environment_beats_the_run_files_and_an_argument_beats_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gateway.json").write_text(json.dumps({"listen": "127.0.0.1:1"}))
    monkeypatch.setenv("TRIVIUM_GATEWAY_ADDRESS", "127.0.0.1:2")
    monkeypatch.setenv("TRIVIUM_API_KEY", "from-environment")
    assert Connection.settled(data_dir=tmp_path).addresses["gateway"] == "127.0.0.1:2"
    given = Connection.settled({"gateway": "127.0.0.1:3"}, "given", tmp_path)
    assert given.addresses["gateway"] == "127.0.0.1:3"
    assert given.metadata == (("authorization", "Bearer given"),)


def test_a_broken_run_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "gateway.json").write_text("{")
    assert Connection.settled(data_dir=tmp_path).addresses["gateway"] == "127.0.0.1:50050"


def test_a_key_never_shows_in_a_print() -> None:
    assert "secret" not in repr(Connection.settled(api_key="tv_id_secret"))


@pytest.mark.parametrize("named", [("TLS_CERT_FILE",), ("TLS_KEY_FILE", "TLS_CA_FILE"), CERTIFICATES[1:]])
def test_half_a_certificate_is_refused_with_what_to_set(
    named: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in named:
        monkeypatch.setenv(f"TRIVIUM_{name}", "/somewhere")
    with pytest.raises(ValueError, match=r"TRIVIUM_TLS_") as refused:
        Connection.settled()
    assert not missing(str(refused.value), *(f"TRIVIUM_TLS_{part}_FILE" for part in ("CA", "CERT", "KEY")))
