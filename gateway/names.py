"""What the gateway itself must know about model names; everything else is the registry's to say.

A second copy of the registry's grammar would drift from it, so only what never names a version by itself is known here:
nothing, ``base``, ``auto``, and how a base's name begins.
"""

BASE = "base"
AUTO = "auto"
PROD = "prod"


def canonical(name: str) -> str:
    """The name a request means: ``base`` when it gave none."""
    return name.strip() or BASE


def model_of(name: str) -> str:
    """The model that a name is of, as limits and prices name it: without alias and version."""
    return canonical(name).partition("@")[0]


def base_name(name: str) -> str:
    """How ``model`` in a request names a further base, or a full model as a base."""
    return f"{BASE}:{name}"


def is_base(name: str) -> bool:
    """Whether a name says of what it means that it is a base."""
    return canonical(name) == BASE or canonical(name).startswith(base_name(""))


def served_name(model: str, alias: str) -> str:
    """How ``model`` in a request names an alias: ``prod`` goes without saying."""
    return model if alias == PROD else f"{model}@{alias}"
