"""Logs are events with fields; what must not be written is not, even when a call site is careless."""

import json

import pytest

from services.chassis.logs import logger


def line_of(capfd: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capfd.readouterr().err.splitlines()[-1])
    return found


def test_payloads_keys_and_bytes_are_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    logger("t").info(
        "event",
        prompt="the secret recipe",
        api_key="tv_abc_secret",
        blob=b"12345",
        note="Bearer tv_abc_s3cr3t and eyJhbGciOi.eyJzdWIi.c2ln",
        long="x" * 5000,
    )
    line = line_of(capfd)
    text = json.dumps(line)
    for secret in ("recipe", "s3cr3t", "secret", "12345", "eyJzdWIi"):
        assert secret not in text
    assert line["blob"] == "[5 bytes]"
    assert len(str(line["long"])) < 400
    assert line["service"] == "t"


def test_an_exception_is_written_as_places_without_the_values_there(capfd: pytest.CaptureFixture[str]) -> None:
    recipe = "the secret recipe"
    try:
        _break(recipe)
    except KeyError as error:
        logger("t").error("broken", exc_info=error)
    line = line_of(capfd)
    assert line["exception"] == "KeyError"
    assert "_break" in str(line["stack"])
    assert "secret recipe" not in json.dumps(line)


def _break(recipe: str) -> None:
    raise KeyError(len(recipe))
