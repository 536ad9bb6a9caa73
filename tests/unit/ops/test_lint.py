"""The linter's arguments: a name that is none is not a check that passed."""

import pytest

from services.ops import lint


def test_a_name_that_no_check_has_is_refused_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lint", "ruff"])
    assert lint.main() == 2
    assert "types (mypy --strict)" in capsys.readouterr().err
