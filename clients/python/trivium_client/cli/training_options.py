"""What people may say of a training job on the command line, once for every command that takes it.

Invariant: what is not said stays unset, so that the trainer's defaults hold and are told back by it.
"""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from trivium_client import Trivium, TriviumError
from trivium_client.cli.rules import check_name, out_of_bounds
from trivium_client.cli.settings_table import about, default_of
from trivium_client.cli.settings_text import setting_names, with_setting
from trivium_client.nouns import JobFields, LoraSettings, PreferenceSettings, TrainingSettings

_ORDER = "The order"
_METHOD = "What is trained"
_OPTIMIZER = "Optimizer"
_EVALUATION = "Evaluation"
_SPANS = {"m": "minutes", "h": "hours", "d": "days"}
# Options that are called otherwise than what they say of an order.
_CALLED_OTHERWISE = {
    "validation_dataset": "validation",
    "start_version": "from",
    "depends_on": "after",
    "early_stopping_patience": "early-stopping",
    "lora.target_modules": "target",
    **{f"lora.{name}": name for name in ("rank", "alpha", "dropout", "layers")},
}


class Method(StrEnum):
    """The ways of training."""

    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    QLORA = "qlora"
    FULL = "full"


class Objective(StrEnum):
    """What the loss is."""

    SUPERVISED = "supervised"
    CONTINUED = "continued"
    DPO = "dpo"
    KTO = "kto"


class Schedule(StrEnum):
    """How the learning rate moves after warm-up."""

    LINEAR = "linear"
    COSINE = "cosine"
    CONSTANT = "constant"
    STABLE_DECAY = "stable_decay"


class Metric(StrEnum):
    """What decides which evaluation is best."""

    LOSS = "loss"
    EXACT_MATCH = "exact_match"
    TOKEN_F1 = "token_f1"  # noqa: S105  # a metric, no secret
    VALID_JSON = "valid_json"
    PREFERENCE_ACCURACY = "preference_accuracy"


class Priority(StrEnum):
    """Which waiting job goes first."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


def _option(name: str, text: str, panel: str, *, default: str = "", **how: Any) -> Any:
    """An option; `default` says in words what holds without it, where that is not the option's own."""
    if default:
        how["show_default"] = default
    return typer.Option(f"--{name}", help=text, rich_help_panel=panel, **how)


def _setting(name: str, setting: str, panel: str, **how: Any) -> Any:
    """An option that says a setting."""
    return _option(name, about(setting), panel, default=default_of(setting), **how)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that an order of a job may say on the command line; see `fields_of`."""

    base: Annotated[str, _option("base", "Base to train on: base:NAME or base:NAME@VERSION.", _ORDER)] = ""
    alias: Annotated[str, _option("alias", "Alias that moves to the version; - for none.", _ORDER)] = "prod"
    start_version: Annotated[str, _option("from", "Go on from this version: MODEL@VERSION.", _ORDER)] = ""
    recipe: Annotated[
        str,
        _option("recipe", "Begin with a recipe's settings: ID or ID:CHOICE; trivium train recipes lists them.", _ORDER),
    ] = ""
    priority: Annotated[
        Priority | None, _option("priority", "Which waiting job goes first.", _ORDER, default="normal")
    ] = None
    deadline: Annotated[str, _option("deadline", "When it is needed: 90m, 6h, 2d or 2027-01-31T18:00.", _ORDER)] = ""
    after: Annotated[list[str] | None, _option("after", "Job that must succeed first; may be repeated.", _ORDER)] = None
    processes: Annotated[int, _option("processes", "Processes that train a full model together.", _ORDER, min=0)] = 0

    method: Annotated[Method | None, _setting("method", "method", _METHOD)] = None
    objective: Annotated[Objective | None, _setting("objective", "objective", _METHOD)] = None
    rank: Annotated[int | None, _setting("rank", "lora.rank", _METHOD, min=1)] = None
    alpha: Annotated[float | None, _setting("alpha", "lora.alpha", _METHOD)] = None
    dropout: Annotated[float | None, _setting("dropout", "lora.dropout", _METHOD, min=0)] = None
    target: Annotated[
        list[str] | None,
        _option("target", "Module to adapt; may be repeated.", _METHOD, default=default_of("lora.target_modules")),
    ] = None
    layers: Annotated[
        str, _option("layers", "Layers to adapt, from 0: 0-11 or 3,5,7.", _METHOD, default=default_of("lora.layers"))
    ] = ""
    max_row_tokens: Annotated[int | None, _setting("max-row-tokens", "max_row_tokens", _METHOD, min=8)] = None
    seed: Annotated[int | None, _setting("seed", "seed", _METHOD, min=0)] = None

    epochs: Annotated[int | None, _setting("epochs", "epochs", _OPTIMIZER, min=1)] = None
    batch_rows: Annotated[int | None, _setting("batch-rows", "batch_rows", _OPTIMIZER, min=1)] = None
    learning_rate: Annotated[float | None, _setting("learning-rate", "learning_rate", _OPTIMIZER)] = None
    schedule: Annotated[Schedule | None, _setting("schedule", "schedule", _OPTIMIZER)] = None
    warmup_ratio: Annotated[float | None, _setting("warmup-ratio", "warmup_ratio", _OPTIMIZER, min=0, max=1)] = None

    validation: Annotated[str, _option("validation", "Dataset to evaluate on.", _EVALUATION)] = ""
    validation_ratio: Annotated[
        float | None, _setting("validation-ratio", "validation_ratio", _EVALUATION, min=0, max=0.5)
    ] = None
    metric: Annotated[Metric | None, _setting("metric", "metric", _EVALUATION)] = None
    early_stopping: Annotated[int | None, _setting("early-stopping", "early_stopping_patience", _EVALUATION, min=1)] = (
        None
    )
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other setting, as NAME=VALUE: keep=last, lora.rank_pattern=q_proj:4; trivium train settings lists all.",
        ),
    ] = None


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes every option, and hands them to its parameter `options` as one record."""
    hints = get_type_hints(Options, include_extras=True)
    own = [one for one in inspect.signature(command, eval_str=True).parameters.values() if one.name != "options"]
    theirs = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=hints[each.name])
        for each in fields(Options)
    ]
    by_name = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in [*own, *theirs]]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        chosen = Options(**{each.name: given.pop(each.name) for each in fields(Options)})
        try:
            command(**given, options=chosen)
        except TriviumError as error:
            for violation in error.violations:
                if option := option_of(violation.field):
                    error.add_note(f"{violation.field} is {option} here")
            raise

    # Typer reads both; what the command itself takes besides is gone from neither.
    vars(called)["__signature__"] = inspect.Signature(by_name)
    called.__annotations__ = {one.name: one.annotation for one in by_name}
    return called


def option_of(field: str) -> str:
    """The option that says a field of an order, as a request names it (job.settings.lora.rank); empty where none does."""
    name = re.sub(r"\[.*", "", field.removeprefix("job."))
    name, setting = name.removeprefix("settings."), name.startswith("settings.")
    said = _CALLED_OTHERWISE.get(name, name.replace("_", "-"))
    if said in {"model", "from", *(each.name.replace("_", "-") for each in fields(Options))}:
        return f"--{said}"
    return f"--set {name}=VALUE" if setting and name in setting_names() else ""


def fields_of(options: Options, begun: TrainingSettings | None = None) -> JobFields:
    """What the options say of an order, over the settings that it begins with.

    Raises BadParameter for what cannot be read, ValueError for a setting that is none or has a value that it cannot have.
    """
    alias = "" if options.alias == "-" else options.alias
    if alias:
        check_name("alias", alias)
    settings = _over(options, begun) if begun else _settings(options, TrainingSettings())
    for name, allowed in out_of_bounds(settings).items():
        raise ValueError(f"{option_of(f'settings.{name}').removesuffix('=VALUE')} must be {allowed}")
    return JobFields(
        base=options.base,
        alias=alias,
        settings=settings,
        validation_dataset=options.validation,
        start_version=options.start_version,
        priority=options.priority or "",
        deadline=_deadline(options.deadline, datetime.now(UTC)) if options.deadline else None,
        depends_on=options.after or (),
        processes=options.processes,
        recipe=options.recipe.partition(":")[0],
    )


def filled_fields(options: Options, client: Trivium, dataset: str) -> tuple[JobFields, tuple[str, ...]]:
    """As `fields_of`, over what the recipe fills in for a dataset, where one is named; and what the recipe decided."""
    if not options.recipe:
        return fields_of(options), ()
    recipe, _, choice = options.recipe.partition(":")
    filled = client.recipes.fill(recipe, dataset, choice=choice)
    order = fields_of(options, filled.settings)
    # With the choice: the rows are made by both.
    order["recipe"] = filled.recipe
    return order, tuple(_still_true(filled.notes, filled.settings, order.get("settings") or filled.settings))


def _still_true(notes: Iterable[str], filled: TrainingSettings, said: TrainingSettings) -> Iterator[str]:
    """The notes without those on a setting, which they begin with, that is now another than the recipe's."""
    changed = {name.rpartition(".")[2] for name in setting_names() if _value(filled, name) != _value(said, name)}
    return (note for note in notes if note.partition(" ")[0] not in changed)


def _value(settings: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), settings)


def _over(options: Options, filled: TrainingSettings) -> TrainingSettings:
    """The settings that are said, over those of a recipe that still mean something beside them.

    The trainer refuses what contradicts the rest; what a recipe filled in nobody has said.
    """
    meant = _settings(options, filled)
    objective = meant.objective.lower() or Objective.SUPERVISED
    if meant.method.lower() == Method.FULL:
        filled = replace(filled, lora=LoraSettings())
    elif options.start_version:
        # The adapter that is gone on from says how it is shaped.
        filled = replace(filled, lora=LoraSettings(dropout=filled.lora.dropout))
    if not (options.validation or meant.validation_ratio):
        filled = replace(
            filled, keep="", metric="", evaluation_steps=None, generation_rows=None, generation_tokens=None
        )
        filled = replace(filled, early_stopping_patience=None, early_stopping_delta=None)
    if objective != (filled.objective.lower() or Objective.SUPERVISED):
        filled = replace(filled, metric="", supervision="", generation_rows=None, generation_tokens=None)
        if objective not in (Objective.DPO, Objective.KTO):
            filled = replace(filled, preference=PreferenceSettings())
    return _settings(options, filled)


def _settings(options: Options, begun: TrainingSettings) -> TrainingSettings:
    """The settings that are said, over those that it begins with."""
    said: dict[str, Any] = {
        "method": options.method,
        "objective": options.objective,
        "schedule": options.schedule,
        "metric": options.metric,
        "epochs": options.epochs,
        "batch_rows": options.batch_rows,
        "learning_rate": options.learning_rate,
        "warmup_ratio": options.warmup_ratio,
        "max_row_tokens": options.max_row_tokens,
        "seed": options.seed,
        "validation_ratio": options.validation_ratio,
        "early_stopping_patience": options.early_stopping,
        "lora": _lora(options, begun.lora),
    }
    settings = replace(begun, **{name: value for name, value in said.items() if value is not None})
    for setting in options.settings or ():
        name, equals, text = setting.partition("=")
        if not equals:
            raise typer.BadParameter(f"{setting} is not NAME=VALUE", param_hint="--set")
        settings = with_setting(settings, name.strip(), text.strip())
    return settings


def _lora(options: Options, begun: LoraSettings) -> LoraSettings:
    said: dict[str, Any] = {"rank": options.rank, "alpha": options.alpha, "dropout": options.dropout}
    if options.target:
        said["target_modules"] = tuple(options.target)
    if options.layers:
        said["layers"] = _layers(options.layers)
    return replace(begun, **{name: value for name, value in said.items() if value is not None})


def _layers(text: str) -> tuple[int, ...]:
    layers: list[int] = []
    for part in text.split(","):
        if not (found := re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)):
            raise typer.BadParameter(f"{part!r} is no layer; say 0-11 or 3,5,7", param_hint="--layers")
        layers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return tuple(layers)


def _deadline(text: str, now: datetime) -> datetime:
    if span := re.fullmatch(r"(\d+)([mhd])", text):
        return now + timedelta(**{_SPANS[span[2]]: int(span[1])})
    try:
        # A time without a zone is the caller's own.
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; say 90m, 6h, 2d or 2027-01-31T18:00", param_hint="--deadline"
        ) from None
