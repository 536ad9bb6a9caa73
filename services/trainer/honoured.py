"""What an order may not say, because nothing would come of it.

Invariant: a setting is honoured or refused by name when the job is ordered, as far as that can be known without its rows.
A setting that says what its default says contradicts nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from services.chassis.errors import Failure, Reason
from services.trainer.job import Order
from services.trainer.modules import Misnamed, is_adapted, of_pattern, require_all_named, require_layers, require_name
from services.trainer.needs import Architecture
from services.trainer.recipes.filling import misnamed
from services.trainer.settings import (
    Initialisation,
    Keep,
    Method,
    Metric,
    Objective,
    Settings,
    Supervision,
    default_alpha,
    default_metric,
)

_DEFAULT = Settings()
_LORA = (
    "rank",
    "dropout",
    "target_modules",
    "exclude_modules",
    "layers",
    "rank_pattern",
    "alpha_pattern",
    "initialisation",
)
_KTO_WEIGHTS = ("desirable_weight", "undesirable_weight")
_PREFERENCE = ("beta", "label_smoothing", *_KTO_WEIGHTS)
_EVALUATION = (
    "evaluation_steps",
    "early_stopping_patience",
    "early_stopping_delta",
    "generation_rows",
    "generation_tokens",
)
_OF_ANSWERS = frozenset({Metric.EXACT_MATCH, Metric.TOKEN_F1, Metric.VALID_JSON})

# The path of a field, and what is wrong with it.
Contradiction = tuple[str, str]


def require_honoured(order: Order, base: Architecture) -> None:
    """Raise FIELD_INVALID for what contradicts the rest of the order, SETTINGS_UNFIT for what the base lacks."""
    for field, problem in _contradictions(order):
        raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)
    if order.settings.method.joint and base.unjoinable:
        problem = f"{base.unjoinable}: choose a method that trains alone, dora, qlora or full"
        raise Failure(Reason.SETTINGS_UNFIT, field="settings.method", problem=problem)
    if order.settings.method.makes_adapter:
        _require_named(order.settings, base)


def _contradictions(order: Order) -> Iterator[Contradiction]:
    if problem := misnamed(order.recipe):
        yield "recipe", problem
    if order.settings.method is Method.FULL:
        yield from _of_full(order)
    yield from _of_objective(order.settings)
    if not (order.settings.validation_ratio or order.validation_dataset):
        yield from _of_nothing_held_out(order.settings)
    yield from unmeasured(order.settings)
    yield from _of_evaluation(order.settings)


def _of_full(order: Order) -> Iterator[Contradiction]:
    settings, why = order.settings, "the method full trains all parameters and makes no adapter"
    for name in _changed(settings, _LORA):
        yield f"settings.lora.{name}", f"{why}: leave it out, or choose another method"
    if settings.alpha != default_alpha(settings.method, settings.rank):
        yield "settings.lora.alpha", f"{why}: leave it out, or choose another method"
    if order.start_version:
        yield "start_version", f"{why}: name a full model as the base to go on from it"


def _of_objective(settings: Settings) -> Iterator[Contradiction]:
    objective = settings.objective
    foreign = {Objective.DPO: _KTO_WEIGHTS, Objective.KTO: ("label_smoothing",)}.get(objective, _PREFERENCE)
    for name in _changed(settings, foreign):
        takers = "kto" if name in _KTO_WEIGHTS else "dpo" if name == "label_smoothing" else "dpo or kto"
        yield f"settings.preference.{name}", f"it is for {takers}, the objective is {objective}: leave it out"
    if objective is not Objective.SUPERVISED and settings.supervision is not Supervision.ASSISTANT:
        tokens = "every token is" if objective is Objective.CONTINUED else "the answers that are judged alone are"
        yield "settings.supervision", f"with the objective {objective} {tokens} learned from: leave it out"
    if objective.preference and settings.packing:
        yield "settings.packing", f"{objective} compares whole answers, which share no sequence: leave it out"
    if why := _nothing_asked(settings):
        for name in _changed(settings, ("generation_rows",)):
            yield f"settings.{name}", f"{why}: leave it out"
        if settings.metric in _OF_ANSWERS:
            yield "settings.metric", f"{settings.metric} is measured on answers, and {why}: take another"


def _nothing_asked(settings: Settings) -> str:
    """Why held-out rows have no question that could be answered; empty where they have."""
    if settings.objective is Objective.CONTINUED:
        return "plain text asks nothing that could be answered"
    if settings.supervision is Supervision.ALL:
        return "with the supervision all a row is learned from its beginning, and no part of it is a question"
    return ""


def _of_nothing_held_out(settings: Settings) -> Iterator[Contradiction]:
    why = "nothing is held out to evaluate on: set validation_ratio (0.1 is usual), name a validation_dataset, or leave it out"
    for name in _changed(settings, _EVALUATION):
        yield f"settings.{name}", why
    if settings.metric is not default_metric(settings.objective):
        yield "settings.metric", why
    if settings.keep is Keep.BEST:
        yield "settings.keep", f"no evaluation says which weights are best: {why}"


def unmeasured(settings: Settings) -> Iterator[Contradiction]:
    """Why evaluations of a job with these settings would not give its metric, by field; nothing where they would."""
    metric = settings.metric
    if metric is Metric.PREFERENCE_ACCURACY and settings.objective is not Objective.DPO:
        yield "settings.metric", f"{metric} is measured on the pairs of dpo, not of {settings.objective}: take another"
    if metric in _OF_ANSWERS and not settings.generation_rows:
        problem = f"{metric} is measured on answers, and none are generated: set how many, e.g. 100"
        yield "settings.generation_rows", problem


def _of_evaluation(settings: Settings) -> Iterator[Contradiction]:
    if not settings.generation_rows:
        for name in _changed(settings, ("generation_tokens",)):
            yield f"settings.{name}", "no answers are generated: set generation_rows, or leave it out"
    if not settings.early_stopping_patience:
        for name in _changed(settings, ("early_stopping_delta",)):
            yield f"settings.{name}", "training never ends early: set early_stopping_patience, or leave it out"


def _require_named(settings: Settings, base: Architecture) -> None:
    with _refused(Reason.FIELD_INVALID):
        for field in ("rank_pattern", "alpha_pattern"):
            for name, _ in getattr(settings, field):
                require_name(field, name)
    with _refused(Reason.SETTINGS_UNFIT):
        require_layers(settings.layers, range(base.layers))
        if base.layer_names:
            require_all_named(settings, base.layer_names)
        _require_even(settings, _ranks(settings, base))


def _ranks(settings: Settings, base: Architecture) -> set[int]:
    """Ranks of the layers that are adapted.  Raises Misnamed where none is."""
    pattern = dict(settings.rank_pattern)
    if not base.layer_names:
        return set() if pattern else {settings.rank}
    names = [
        name
        for name in base.layer_names
        if is_adapted(name, settings.target_modules, settings.exclude_modules, settings.layers)
    ]
    if not names:
        field = "exclude_modules" if settings.exclude_modules else "target_modules"
        raise Misnamed(field, "no linear layer is left to adapt; exclude fewer, or name more")
    return {of_pattern(pattern, name, settings.rank) for name in names}


def _require_even(settings: Settings, ranks: set[int]) -> None:
    odd = sorted(rank for rank in ranks if rank % 2)
    if odd and settings.initialisation is Initialisation.ORTHOGONAL:
        field = "rank" if settings.rank in odd else "rank_pattern"
        raise Misnamed(field, f"the rank is {odd[0]}; orthogonal initialisation needs an even one")


@contextmanager
def _refused(reason: Reason) -> Iterator[None]:
    """Refuse by a field of LoRA what is misnamed inside the block."""
    try:
        yield
    except Misnamed as error:
        raise Failure(reason, field=f"settings.lora.{error.field}", problem=str(error)) from None


def _changed(settings: Settings, names: tuple[str, ...]) -> list[str]:
    """Those of the settings that say something else than their defaults."""
    return [name for name in names if getattr(settings, name) != getattr(_DEFAULT, name)]
