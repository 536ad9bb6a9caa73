"""What a suite's programs are told: their peers by the suite, the rest by whoever starts it where they say something."""

from pathlib import Path

import pytest

from services.ops.supervisor.doors import settled
from services.ops.supervisor.plan import environment, suite_programs

FILES = next(program for program in suite_programs() if program.name == "files")


def told(given: dict[str, str]) -> dict[str, str]:
    doors = settled(["files", "gateway", "generator"], free=False, environment=given)
    return environment(FILES, doors, Path("/data"), given)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("", "http://127.0.0.1:8080"),
        ("127.0.0.1:7000", "http://127.0.0.1:7000"),
        ("0.0.0.0:7000", "http://127.0.0.1:7000"),
        ("[::]:7000", "http://127.0.0.1:7000"),
        ("localhost:7000", "http://localhost:7000"),
    ],
)
def test_batches_ask_the_door_beside_them(listen: str, url: str) -> None:
    given = {"TRIVIUM_GATEWAY_HTTP_LISTEN": listen} if listen else {}
    assert told(given)["TRIVIUM_FILES_GATEWAY_URL"] == url


def test_batches_ask_a_door_with_a_certificate_by_https() -> None:
    given = {"TRIVIUM_GATEWAY_HTTP_LISTEN": "0.0.0.0:7000", "TRIVIUM_GATEWAY_HTTP_TLS_CERT_FILE": "http.pem"}
    assert told(given)["TRIVIUM_FILES_GATEWAY_URL"] == "https://127.0.0.1:7000"


def test_where_batches_ask_may_be_said_and_where_peers_are_the_suite_says() -> None:
    given = {"TRIVIUM_FILES_GATEWAY_URL": "https://trivium.example.com", "TRIVIUM_GENERATOR_ADDRESS": "elsewhere:1"}
    found = told(given)
    assert found["TRIVIUM_FILES_GATEWAY_URL"] == "https://trivium.example.com"
    assert found["TRIVIUM_GENERATOR_ADDRESS"] == "127.0.0.1:50056"
