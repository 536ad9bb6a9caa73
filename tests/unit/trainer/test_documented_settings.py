"""The README's table of the trainer's settings has all of them, with the defaults that they have."""

import re
from enum import StrEnum
from pathlib import Path

from services.chassis.config import ServiceSettings
from services.trainer.config import TrainerSettings

README = Path(__file__).parents[3] / "README.md"
_UNITS = {"MiB": 1024**2, "GiB": 1024**3}
# They have names of their own, and stand beside the table.
_SHARED = {"base_model", "serving_rank"}


def documented() -> dict[str, str]:
    """The default that the table says, by setting."""
    section = README.read_text().split("### The trainer's settings", 1)[1].split("\n## ", 1)[0]
    rows = [
        row.strip("| ").split(" | ") for row in section.splitlines() if row.startswith("| `") and "…" not in row[:24]
    ]
    return {
        name: default
        for names, _, defaults in rows
        for name, default in zip(re.findall(r"`(\w+)`", names), defaults.split(", "), strict=True)
    }


def said(value: object) -> str:
    """A default as the table says it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, int | float):
        units = [(value / size, unit) for unit, size in _UNITS.items() if value and value % size == 0]
        count, unit = min(units, default=(value, ""))
        return f"{count:.10g} {unit}".strip()
    return str(value or "none")


def test_the_table_has_every_setting_of_the_trainer_with_its_default() -> None:
    own = TrainerSettings.model_fields.keys() - ServiceSettings.model_fields.keys() - _SHARED
    defaults = {
        name.upper(): said(TrainerSettings.model_fields[name].get_default(call_default_factory=True)) for name in own
    }
    assert documented() == defaults | {"DATABASE_URL": "SQLite"}


def test_a_rank_that_is_warned_of_is_above_the_one_in_the_text() -> None:
    (rank,) = re.findall(r"`TRIVIUM_GENERATOR_MAX_LORA_RANK` \((\d+)\)", README.read_text())
    assert int(rank) == TrainerSettings.model_fields["serving_rank"].default
