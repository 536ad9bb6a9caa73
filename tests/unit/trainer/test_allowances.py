"""What an operator grants tenants: the README's own example is taken, and what makes no sense is refused by its name."""

import re
import shlex
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.trainer.config import TenantAllowance, TrainerSettings
from services.trainer.planning import Allowance, allowance_of
from services.trainer.scheduling.state import Priority

README = Path(__file__).parents[3] / "README.md"
NAME = "TRIVIUM_TRAINER_ALLOWANCES"


def documented() -> str:
    """The value that the README's example exports, as a shell would."""
    (command,) = re.findall(rf"^export {NAME}='.*?'$", README.read_text(), re.MULTILINE | re.DOTALL)
    _, assignment = shlex.split(command)
    return assignment.removeprefix(f"{NAME}=")


def test_the_example_in_the_readme_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, documented())
    granted = TrainerSettings().allowance_by_tenant
    assert granted["acme"] == Allowance(2.0, 4_000_000_000, 8, 1_000_000)
    assert allowance_of("somebody", granted) == Allowance(1.0, None, 4, None, Priority.NORMAL)


def test_the_readme_explains_every_field() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE)
    assert set(TenantAllowance.model_fields) <= set(rows)


@pytest.mark.parametrize(
    ("granted", "field", "kind"),
    [
        ('{"acme": {"wieght": 2}}', "wieght", "extra_forbidden"),
        ('{"acme": {"weight": 0}}', "weight", "greater_than"),
        ('{"acme": {"weight": NaN}}', "weight", "finite_number"),
        ('{"acme": {"resident_bytes": "4 GB"}}', "resident_bytes", "int_parsing"),
        ('{"acme": {"highest_priority": "urgent"}}', "highest_priority", "literal_error"),
        ('{"acme": {"concurrent_jobs": 0}}', "concurrent_jobs", "greater_than_equal"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(
    monkeypatch: pytest.MonkeyPatch, granted: str, field: str, kind: str
) -> None:
    monkeypatch.setenv(NAME, granted)
    with pytest.raises(ValidationError) as refused:
        TrainerSettings()
    assert [(error["loc"], error["type"]) for error in refused.value.errors()] == [
        (("allowances", "acme", field), kind)
    ]
