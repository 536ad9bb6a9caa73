"""Which settings a sweep may search over, and how their values are written.

Invariant: members of a sweep are compared by one number, measured alike on the same held-out rows; so what would
change that number's meaning or those rows is no axis.
"""

import math
from dataclasses import dataclass
from enum import Enum, StrEnum
from functools import cache
from typing import Any, get_type_hints

from services.chassis.errors import Failure, Reason
from services.chassis.nearest import nearest
from services.trainer.settings import Metric, Settings

_LORA = ("rank", "alpha", "dropout", "target_modules", "exclude_modules", "layers", "initialisation")
_PREFERENCE = ("beta", "label_smoothing", "desirable_weight", "undesirable_weight")
# They name modules one by one, which one text cannot: such members are written out.
_PATTERNS = ("rank_pattern", "alpha_pattern")
_ALWAYS_FIXED = frozenset({"objective", "metric", "validation_ratio", "generation_rows", "generation_tokens"})
# They choose the rows that are held out, unless those are a dataset of their own.
_CHOOSE_ROWS = frozenset({"seed", "sample_rows"})
# With them the loss is another formula, or is taken on other tokens.
_CHANGE_LOSS = frozenset({"supervision", "max_row_tokens", *_PREFERENCE})

Value = int | float | bool | str | tuple[str, ...] | tuple[int, ...]


class Kind(StrEnum):
    """What a value is, in words."""

    INTEGER = "a whole number"
    NUMBER = "a number"
    SWITCH = "true or false"
    NAME = "one of several names"
    NAMES = "names with commas between them"
    INTEGERS = "whole numbers with commas between them"


@dataclass(frozen=True, slots=True)
class Searchable:
    """A setting: its name as a request writes it (`lora.rank`), what its values are, and the names it may take."""

    name: str
    kind: Kind
    names: tuple[str, ...] = ()

    @property
    def field(self) -> str:
        """Its name in `Settings`."""
        return self.name.rpartition(".")[2]

    def parse(self, text: str) -> Value:
        """Return the value that a text means; a name in capitals.  Raises ValueError with a sentence."""
        try:
            return self._parsed(text.strip())
        except ValueError:
            expected = f"one of {', '.join(self.names)}" if self.names else self.kind.value
            raise ValueError(f"{self.name} takes {expected}, not {text!r}") from None

    def _parsed(self, text: str) -> Value:
        match self.kind:
            case Kind.INTEGER:
                return int(text)
            case Kind.NUMBER:
                return _finite(text)
            case Kind.INTEGERS:
                return tuple(int(part) for part in text.split(","))
            case Kind.NAMES:
                return tuple(_filled(part) for part in text.split(","))
            case Kind.SWITCH:
                return {"true": True, "false": False}[_among(text.lower(), ("true", "false"))]
            case Kind.NAME:
                return _among(text.upper(), self.names)


@cache
def searchables() -> dict[str, Searchable]:
    """Every setting that can be an axis, by its name in a request."""
    hints: dict[str, Any] = get_type_hints(Settings)
    found = [_searchable(field, hints[field]) for field in hints if field not in _ALWAYS_FIXED | set(_PATTERNS)]
    return {entry.name: entry for entry in found}


def searchable(name: str) -> Searchable:
    """Return the setting of that name.  Raises ValueError with the names like it, or why it is no axis."""
    found = searchables().get(name)
    if found is not None:
        return found
    field = name.rpartition(".")[2]
    if field in _ALWAYS_FIXED:
        raise ValueError(f"{name} is the same for all members, which are compared by it: set it in job.settings")
    if field in _PATTERNS:
        raise ValueError(f"{name} names single modules: write the members out instead of giving axes")
    # Whoever writes `rank` means `lora.rank`.
    like = nearest(name, [*searchables(), *(entry.field for entry in searchables().values())])
    known = {entry.field: entry.name for entry in searchables().values()}
    meant = list(dict.fromkeys(known.get(part, part) for part in like.split(", ")))
    raise ValueError(f"no setting is named {name}; names like it: {', '.join(meant)}")


def incomparable(field: str, metric: Metric, *, rows_are_given: bool) -> str | None:
    """Return why members that differ in the field of `Settings` cannot be compared; None where they can.

    `rows_are_given`: the held-out rows are a dataset of their own.
    """
    if field in _ALWAYS_FIXED:
        return f"all members must have the same {field}: they are compared by it"
    if field in _CHOOSE_ROWS and not rows_are_given:
        return f"{field} chooses the rows that are held out: name a validation_dataset, so that all meet the same rows"
    if field in _CHANGE_LOSS and metric is Metric.LOSS:
        return f"{field} changes what the loss is: set settings.metric to another metric to compare by"
    return None


def invalid(field: str, problem: str) -> Failure:
    """The failure of a field of the request."""
    return Failure(Reason.FIELD_INVALID, field=field, problem=problem)


def _searchable(field: str, hint: Any) -> Searchable:
    group = "lora." if field in _LORA else "preference." if field in _PREFERENCE else ""
    name = f"{group}{field}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return Searchable(name, Kind.NAME, tuple(member.name for member in hint))
    kinds = {bool: Kind.SWITCH, int: Kind.INTEGER, float: Kind.NUMBER, tuple[str, ...]: Kind.NAMES}
    return Searchable(name, kinds.get(hint, Kind.INTEGERS))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text.strip()


def _among(text: str, names: tuple[str, ...]) -> str:
    if text not in names:
        raise ValueError(text)
    return text
