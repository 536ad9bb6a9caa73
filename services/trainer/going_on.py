"""What an order that goes on from an earlier adapter takes over from it, and what of it may not be otherwise.

Invariant: what an adapter's weights mean does not change.  Its rank, scale and layers are taken from it where the order
leaves them out, and an order that says others is refused before it is queued; so the settings that a job is stored with
are those that it trains with.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.chassis.errors import Failure, Reason
from services.trainer.modules import is_adapted, layer_indices, listed, module_names
from services.trainer.settings import ALL_LINEAR, Method, Settings

# Which layers are adapted: by the names of modules, and by indices.
_CHOOSE_LAYERS = ("target_modules", "exclude_modules", "layers")
_SCALE = ("rank", "alpha", "rank_pattern", "alpha_pattern")
# What PEFT takes where the file says nothing.
_DEFAULT_ALPHA = 8
# What else an adapter may hold: nothing here trains it.
_BEYOND = ("modules_to_save", "trainable_token_indices", "lora_bias")


@dataclass(frozen=True, slots=True)
class Shape:
    """What an adapter is, by its adapter_config.json; fields as those of `Settings`.

    ``method`` is lora, rslora or dora.  ``target_modules`` is None where a pattern chooses them.
    """

    method: Method
    rank: int
    alpha: float
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    target_modules: tuple[str, ...] | None = ()
    exclude_modules: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """An adapter to go on from: what the order calls it, its version, its shape."""

    name: str
    version: str
    shape: Shape


def shape_of(name: str, config: Mapping[str, Any]) -> Shape:
    """The shape of the adapter ``name`` by its configuration, which the registry has checked.

    Raises FIELD_INVALID for an adapter that no method here makes.
    """
    rslora, dora = bool(config.get("use_rslora")), bool(config.get("use_dora"))
    if rslora and dora:
        raise _unfit(name, "is DoRA with the scale of rsLoRA, which no method trains")
    if config.get("bias", "none") != "none" or any(config.get(key) for key in _BEYOND):
        raise _unfit(name, "holds more than the matrices of LoRA (biases, whole modules or tokens)")
    layers, excluded = config.get("layers_to_transform"), config.get("exclude_modules")
    return Shape(
        method=Method.RSLORA if rslora else Method.DORA if dora else Method.LORA,
        rank=int(config["r"]),
        alpha=float(config.get("lora_alpha", _DEFAULT_ALPHA)),
        rank_pattern=tuple((config.get("rank_pattern") or {}).items()),
        alpha_pattern=tuple((key, float(value)) for key, value in (config.get("alpha_pattern") or {}).items()),
        target_modules=None if isinstance(excluded, str) else _targets(config.get("target_modules")),
        exclude_modules=() if isinstance(excluded, str) else tuple(excluded or ()),
        layers=(layers,) if isinstance(layers, int) else tuple(layers or ()),
    )


def _targets(given: Any) -> tuple[str, ...] | None:
    if given == ALL_LINEAR:
        return ()
    # PEFT takes a text for a pattern, and nothing at all for what it knows of the base's type.
    return None if isinstance(given, str | None) else tuple(given)


def going_on(settings: Settings, said: Collection[str], start: Start, layer_names: Sequence[str]) -> Settings:
    """The complete settings of an order that goes on from ``start``.

    ``said`` are the fields of ``settings`` that the order itself gave; the others hold defaults.  ``layer_names`` are the
    base's linear layers, empty where only loading it tells: then layers that the order names are compared at the first
    step.  Raises FIELD_INVALID for what differs, with both values.
    """
    if settings.method is Method.FULL:
        # Which makes no adapter; that it goes on from none is said with the rest of what contradicts it.
        return settings
    shape = start.shape
    # Whether the frozen base is held in 4 bits is not the adapter's affair.
    plain = Method.LORA if settings.method is Method.QLORA else settings.method
    if "method" not in said:
        settings = replace(settings, method=shape.method)
    elif plain is not shape.method:
        raise _differs(start, "settings.method", f"is of the method {shape.method}", settings.method)
    for name in _SCALE:
        has, given = getattr(shape, name), getattr(settings, name)
        if name in said and _comparable(given) != _comparable(has):
            raise _differs(start, f"settings.lora.{name}", f"has {name} {_text(has)}", _text(given))
    settings = replace(settings, **{name: getattr(shape, name) for name in _SCALE})
    return _on_its_layers(settings, [name for name in _CHOOSE_LAYERS if name in said], start, layer_names)


def _on_its_layers(settings: Settings, said: Sequence[str], start: Start, names: Sequence[str]) -> Settings:
    shape = start.shape
    if shape.target_modules is None:
        if not said:
            raise _unfit(start.name, "chooses its layers by a pattern: name them in settings.lora.target_modules")
        return settings
    if not names:
        own = {name: getattr(shape, name) for name in _CHOOSE_LAYERS}
        return settings if said else replace(settings, **own)
    wanted = _adapted(names, shape.target_modules, shape.exclude_modules, shape.layers)
    if not wanted:
        raise _unfit(start.name, "is on none of the base's linear layers")
    if _adapted_by(settings, names) == wanted:
        return settings
    own = dict(zip(("target_modules", "layers"), _shortest(wanted, names), strict=True))
    filled = replace(settings, **{name: value for name, value in own.items() if name not in said})
    if (found := _adapted_by(filled, names)) != wanted:
        has = f"adapts {_described(wanted, names)}"
        raise _differs(start, f"settings.lora.{said[0]}", has, _described(found, names))
    return filled


def _adapted_by(settings: Settings, names: Sequence[str]) -> frozenset[str]:
    return _adapted(names, settings.target_modules, settings.exclude_modules, settings.layers)


def _adapted(
    names: Sequence[str], targets: Collection[str], excluded: Collection[str], layers: Collection[int]
) -> frozenset[str]:
    return frozenset(name for name in names if is_adapted(name, targets, excluded, layers))


def _shortest(wanted: frozenset[str], names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of modules, and indices of layers, by which just the layers ``wanted`` are adapted."""
    ends = module_names(wanted)
    for layers in ((), tuple(sorted(layer_indices(wanted)))):
        if _adapted(names, ends, (), layers) == wanted:
            return ends, layers
    return tuple(name for name in names if name in wanted), ()


def _described(adapted: frozenset[str], names: Sequence[str]) -> str:
    modules, layers = ", ".join(module_names(adapted)) or "no module", layer_indices(adapted)
    return modules if layers == layer_indices(names) else f"{modules} in the layers {listed(layers) or 'none'}"


def _comparable(value: object) -> object:
    """Patterns by what they say of each name: on the wire they have no order."""
    return dict(value) if isinstance(value, tuple) else value


def _text(value: float | tuple[tuple[str, float], ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{name}:{each:g}" for name, each in value) or "none"
    return f"{value:.10g}"


def _differs(start: Start, field: str, has: str, given: object) -> Failure:
    problem = (
        f"{start.name} {has}, the order says {given}: leave it out to go on with what it has, or leave out start_version "
        "to train a new adapter"
    )
    return Failure(Reason.FIELD_INVALID, field=field, problem=problem)


def _unfit(name: str, why: str) -> Failure:
    return Failure(Reason.FIELD_INVALID, field="start_version", problem=f"{name} {why}")
