"""From what a caller of OpenAI's shape asks for to the trainer's order.

Invariant: each value stands at one place of the request and has one effect; one that is said twice is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gateway.fine_tuning.training import Settings
from services.chassis.errors import Failure, Reason

# What a registry calls a model.
_MODEL_LETTERS = 63
_NOT_OF_A_NAME = re.compile(r"[^a-z0-9.]+")
_OWN_NAMES = frozenset({"base", "auto"})


class Method(StrEnum):
    """What is learned from."""

    SUPERVISED = "supervised"
    DPO = "dpo"


OBJECTIVES = {Method.SUPERVISED: "OBJECTIVE_SUPERVISED", Method.DPO: "OBJECTIVE_DPO"}


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """What OpenAI calls so; None is ``auto``."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for a job.  ``settings`` are the trainer's own, beside what the rest of the request says."""

    model: str
    training_file: str
    validation_file: str = ""
    method: Method = Method.SUPERVISED
    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    suffix: str = ""
    seed: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    settings: Settings = field(default_factory=dict)
    base: str = ""
    alias: str = ""
    request_id: str = ""


def model_name(suffix: str, fresh: str) -> str:
    """The model of the registry that takes the version; ``fresh`` are letters and digits that nobody else has.

    Raises FIELD_INVALID for a suffix that leaves nothing, or a name of the platform's own.
    """
    if not suffix:
        return f"ft-{fresh}"
    name = _NOT_OF_A_NAME.sub("-", suffix.lower())[:_MODEL_LETTERS].strip("-.")
    if not name or name in _OWN_NAMES:
        problem = f"{suffix!r} names no model: use letters and digits, and neither base nor auto"
        raise Failure(Reason.FIELD_INVALID, field="suffix", problem=problem)
    return name


def settings_of(asked: Asked) -> dict[str, Any]:
    """The trainer's settings, but for the learning rate that a multiplier means.

    Raises FIELD_INVALID for what is said twice, and for ``beta`` beside a method without it.
    """
    given, chosen = dict(asked.settings), asked.hyperparameters
    _require_single("objective", given, "method", asked.method)
    given["objective"] = OBJECTIVES[asked.method]
    for name, ours, value in (
        ("epochs", "hyperparameters.n_epochs", chosen.n_epochs),
        ("batch_rows", "hyperparameters.batch_size", chosen.batch_size),
        ("seed", "seed", asked.seed),
    ):
        if value is not None:
            _require_single(name, given, ours, value)
            given[name] = value
    if chosen.learning_rate_multiplier is not None:
        _require_single("learning_rate", given, "hyperparameters.learning_rate_multiplier", None)
    if chosen.beta is not None:
        if asked.method is not Method.DPO:
            problem = "it is for the method dpo; leave it out"
            raise Failure(Reason.FIELD_INVALID, field="hyperparameters.beta", problem=problem)
        preference = dict(given.get("preference", {}))
        _require_single("beta", preference, "hyperparameters.beta", chosen.beta)
        given["preference"] = preference | {"beta": chosen.beta}
    return given


def _require_single(name: str, given: Mapping[str, Any], ours: str, value: object) -> None:
    if name in given:
        said = f" ({value})" if value is not None else ""
        problem = f"it is said by {ours}{said} already: leave one of the two out"
        raise Failure(Reason.FIELD_INVALID, field=f"settings.{name}", problem=problem)
