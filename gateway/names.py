"""What the gateway itself must know about model names; everything else is the registry's to say.

A second copy of the registry's grammar would drift from it, so only the three names that
never name a version are known here: nothing, ``base`` and ``auto``.
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


def served_name(model: str, alias: str) -> str:
    """How ``model`` in a request names an alias: ``prod`` goes without saying."""
    return model if alias == PROD else f"{model}@{alias}"
