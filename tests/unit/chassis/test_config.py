"""Settings come from the environment and never show a secret."""

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr, ValidationError

from services.chassis.config import ServiceSettings, environment, split_address


class Settings(ServiceSettings):
    """A service's own settings."""

    service: ClassVar[str] = "registry"
    model_config = environment("registry")
    upload_token: str = ""
    extra_url: str = ""


def test_a_service_listens_on_its_own_ports_by_default() -> None:
    settings = Settings()
    assert (settings.listen, settings.admin_listen, settings.metrics_listen) == (
        "127.0.0.1:50052",
        "127.0.0.1:51052",
        "127.0.0.1:52052",
    )


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIVIUM_REGISTRY_LISTEN", "127.0.0.1:7")
    monkeypatch.setenv("TRIVIUM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRIVIUM_ACCESS_ADDRESS", "127.0.0.1:8")
    monkeypatch.setenv("TRIVIUM_TRAINER_LISTEN", "127.0.0.1:9")
    settings = Settings()
    assert settings.listen == "127.0.0.1:7"
    assert settings.address("access") == "127.0.0.1:8"
    assert settings.service_dir == tmp_path / "registry"
    assert settings.database_url.get_secret_value() == f"sqlite:///{tmp_path}/registry/registry.db"
    assert settings.service_key_file == tmp_path / "keys" / "service.key"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_REGISTRY_LISTEN", "")
    monkeypatch.setenv("TRIVIUM_TLS_CERT_FILE", "")
    assert Settings().listen == "127.0.0.1:50052"


def test_no_print_shows_a_secret(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        database_url=SecretStr("postgresql://user:hunter2@db/trivium"),
        upload_token="hunter2",
        extra_url="https://user:hunter2@host/path",
    )
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "hunter2" not in shown
    assert "https://user:" in repr(settings)


def test_a_bad_setting_is_refused_without_quoting_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIVIUM_REGISTRY_MAX_CALLS", "hunter2")
    with pytest.raises(ValidationError) as error:
        Settings()
    assert "hunter2" not in str(error.value)
    assert "max_calls" in str(error.value).lower()


@pytest.mark.parametrize("address", ["host", "host:", "host:x", "host:70000", ""])
def test_an_address_is_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)
