"""Settings as text, by the names that the contract gives them: `keep=last`, `lora.rank_pattern=q_proj:4`.

Invariant: whatever `TrainingSettings` has can be said, and nothing else can.
"""

import difflib
import textwrap
from dataclasses import fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from trivium_client.nouns import TrainingSettings

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_COLUMNS = 80


def setting_names(settings: Any = None) -> list[str]:
    """Every setting's name, those of LoRA and of preferences behind a dot."""
    found: list[str] = []
    record = settings or TrainingSettings()
    for each in fields(record):
        value = getattr(record, each.name)
        found += [f"{each.name}.{name}" for name in setting_names(value)] if is_dataclass(value) else [each.name]
    return found


def known_name(name: str) -> str:
    """The name, if it is a setting's.  Raises ValueError that names what is like it."""
    if name not in (known := setting_names()):
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        near += [other for other in known if other.endswith(f".{name}") and other not in near]
        there_is = f"like it: {', '.join(near)}" if near else f"there are:\n{_in_lines(known)}"
        raise ValueError(f"no setting is named {name!r}; {there_is}")
    return name


def _in_lines(names: list[str]) -> str:
    return textwrap.fill(", ".join(names), _COLUMNS, initial_indent="  ", subsequent_indent="  ")


def is_list(name: str) -> bool:
    """Whether the setting takes several values at once."""
    group, _, inner = known_name(name).rpartition(".")
    settings = TrainingSettings()
    owner = getattr(settings, group) if group else settings
    return get_origin(_plain(get_type_hints(type(owner))[inner])) is tuple


def with_setting(settings: TrainingSettings, name: str, text: str) -> TrainingSettings:
    """The settings with one more.  Raises ValueError that names what is like it, or what may be said."""
    group, _, inner = known_name(name).rpartition(".")
    owner = getattr(settings, group) if group else settings
    kind = get_type_hints(type(owner))[inner]
    try:
        changed: Any = replace(owner, **{inner: _read(kind, text)})
    except (ValueError, KeyError):
        raise ValueError(f"{name} takes {_described(kind)}, not {text!r}") from None
    whole: TrainingSettings = replace(settings, **{group: changed}) if group else changed
    return whole


def described(name: str) -> str:
    """What a setting's value is, in words."""
    group, _, inner = known_name(name).rpartition(".")
    settings = TrainingSettings()
    return _described(get_type_hints(type(getattr(settings, group) if group else settings))[inner])


def _read(kind: Any, text: str) -> Any:
    plain = _plain(kind)
    if plain is bool:
        return _BOOLEANS[text.lower()]
    if plain in (int, float, str):
        return plain(text)
    if get_origin(plain) is tuple:
        return tuple(get_args(plain)[0](part.strip()) for part in text.split(",") if part.strip())
    pairs = [part.rsplit(":", 1) for part in text.split(",")]
    return {name.strip(): get_args(plain)[1](value) for name, value in pairs}


def _plain(kind: Any) -> Any:
    """The type of a field that may be None."""
    return (
        next((one for one in get_args(kind) if one is not type(None)), kind) if type(None) in get_args(kind) else kind
    )


def _described(kind: Any) -> str:
    plain = _plain(kind)
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    if plain in words:
        return words[plain]
    return "values with commas" if get_origin(plain) is tuple else "NAME:VALUE with commas"
