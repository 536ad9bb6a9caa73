"""Which linear layers of a base an adapter's settings name, by the names of the layers alone.

Invariant: names mean here what PEFT takes them for, so that a job is refused when it is ordered for what it would be
refused for, or worse, for what nothing would come of, once its base is loaded.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from services.trainer.peft_layout import MODULE_NAME, names_module
from services.trainer.settings import Settings

# Where a layer stands: the first number between dots, as PEFT reads it.
_LAYER_INDEX = re.compile(r".*?\.[^.]*\.(?P<index>\d+)\.")
T = TypeVar("T")


class Misnamed(ValueError):
    """A setting that names what the base lacks; `field` is its name in `Settings`, the text a sentence."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(problem)


def require_all_named(settings: Settings, names: Collection[str]) -> None:
    """Raise Misnamed for a setting of the adapter that names nothing among the linear layers `names`."""
    patterns = {
        "rank_pattern": [name for name, _ in settings.rank_pattern],
        "alpha_pattern": [name for name, _ in settings.alpha_pattern],
    }
    require_named(names, targets=settings.target_modules, excluded=settings.exclude_modules, patterns=patterns)
    require_layers(settings.layers, layer_indices(names))


def require_named(
    names: Collection[str],
    *,
    targets: Iterable[str] = (),
    excluded: Iterable[str] = (),
    patterns: Mapping[str, Iterable[str]],
) -> None:
    """Raise Misnamed for what names none of the linear layers `names`; `patterns` are names by their field."""
    known = ", ".join(module_names(names))
    for field, given in (("target_modules", targets), ("exclude_modules", excluded)):
        if missing := sorted(name for name in given if not _fits(name, names)):
            raise Misnamed(field, f"the base has no linear layer {', '.join(missing)}; it has {known}")
    for field, given in patterns.items():
        for name in given:
            require_name(field, name)
            if not _fits(name, names):
                raise Misnamed(field, f"the pattern {name} fits no linear layer of the base; it has {known}")


def require_name(field: str, name: str) -> None:
    """Raise Misnamed for a pattern that is no name: matched as PEFT would, it may cost more than any job."""
    if not MODULE_NAME.fullmatch(name):
        raise Misnamed(
            field, f"{name} is no name of a module; write one, or the end of one, such as q_proj or mlp.up_proj"
        )


def require_layers(layers: Iterable[int], known: Collection[int]) -> None:
    """Raise Misnamed for indices of layers that are not among those `known`."""
    if absent := set(layers) - set(known):
        has = f"it has {min(known)} to {max(known)}" if known else "its layers have no numbers"
        raise Misnamed("layers", f"the base has no layer {listed(absent)}; {has}")


def layer_indices(names: Iterable[str]) -> set[int]:
    """Where the layers of these names stand."""
    return {index for name in names if (index := layer_index(name)) is not None}


def layer_index(name: str) -> int | None:
    """Where the layer of this name stands, from 0; None for one that is in no list of layers."""
    match = _LAYER_INDEX.match(name)
    return int(match["index"]) if match else None


def is_adapted(name: str, targets: Collection[str], excluded: Iterable[str], layers: Collection[int]) -> bool:
    """Whether a linear layer is adapted; empty `targets` and `layers` mean all."""
    if layers and layer_index(name) not in layers:
        return False
    if any(names_module(end, name) for end in excluded):
        return False
    return not targets or any(names_module(end, name) for end in targets)


def of_pattern(pattern: Mapping[str, T], name: str, default: T) -> T:
    """What a pattern says of a layer: the first of its names that fits counts."""
    return next((value for end, value in pattern.items() if names_module(end, name)), default)


def module_names(layers: Iterable[str]) -> tuple[str, ...]:
    """Last parts of the layers' names, each once, sorted."""
    return tuple(sorted({name.rpartition(".")[2] for name in layers}))


def listed(numbers: Iterable[int]) -> str:
    """Numbers for people: those that follow one another, three or more of them, as 4-9."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    return ", ".join(part for run in parts for part in run)


def _fits(end: str, names: Iterable[str]) -> bool:
    return any(names_module(end, name) for name in names)
