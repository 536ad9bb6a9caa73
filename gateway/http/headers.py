"""The headers that answers have beside HTTP's own, as the document tells them.

Invariant: no answer has another one, and none lacks one that is required here; tests hold every answer to it.
"""

from typing import Any

_REFUSED = "Not done; the error says why."
_EVERY: dict[str, Any] = {
    "x-request-id": {
        "description": "The request's id, under which its receipt is kept.",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    },
    "cache-control": {"description": "No answer is kept on its way.", "schema": {"const": "no-store"}},
}
_RETRY_AFTER: dict[str, Any] = {
    "retry-after": {
        "description": "Seconds after which a repeat may be tried.",
        "schema": {"type": "integer", "minimum": 1},
    },
}
_SHOULD_RETRY: dict[str, Any] = {
    "x-should-retry": {
        "description": "Whether a repeat may end otherwise.",
        "required": True,
        "schema": {"enum": ["true", "false"]},
    },
}
_EVENTS: dict[str, Any] = {
    "x-accel-buffering": {
        "description": "Of a stream: proxies are to pass it on as it comes.",
        "schema": {"const": "no"},
    },
}
# By the name of the response in the document: the numbers, and the headers beside those of every answer.
REFUSALS: dict[str, tuple[frozenset[int], dict[str, Any]]] = {
    "Unauthenticated": (
        frozenset({401}),
        {
            **_RETRY_AFTER,
            "www-authenticate": {
                "description": "How to say who asks.",
                "required": True,
                "schema": {"const": "Bearer"},
            },
        },
    ),
    "NotAllowed": (
        frozenset({405}),
        {"allow": {"description": "What the path takes.", "required": True, "schema": {"type": "string"}}},
    ),
    "Late": (frozenset({408}), {}),
    "TooLarge": (frozenset({413}), _SHOULD_RETRY),
    "Refused": (frozenset({400, 403, 404}), _RETRY_AFTER),
    "Failed": (frozenset({409, 429, 499, 500, 501, 503, 504}), {**_RETRY_AFTER, **_SHOULD_RETRY}),
}
# Those that come behind what is told of limits too.
_BEHIND_LIMITS = ("Refused", "Failed")


def _limits(what: str) -> dict[str, Any]:
    return {
        f"x-ratelimit-limit-{what}": {
            "description": f"The most {what} a minute, of the limit that is nearest to its end; without a limit none is told.",
            "schema": {"type": "integer", "minimum": 1},
        },
        f"x-ratelimit-remaining-{what}": {
            "description": f"The {what} of it that are left.",
            "schema": {"type": "integer", "minimum": 0},
        },
        f"x-ratelimit-reset-{what}": {
            "description": "After which time all of it is there again.",
            "schema": {"type": "string", "pattern": r"^(\d+m)?\d+(\.\d+)?s$"},
        },
    }


_LIMITS = {**_limits("requests"), **_limits("tokens")}


def of_answer(*, limited: bool, streams: bool, own: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Of an answer that is no refusal; ``own`` are the route's."""
    said = {
        name: {"description": "Milliseconds until asking again is worth it.", "required": True, "schema": {"const": it}}
        for name, it in own
    }
    return {**_EVERY, **(_LIMITS if limited else {}), **(_EVENTS if streams else {}), **said}


def of_refusals(content: dict[str, Any]) -> dict[str, Any]:
    """Every response that is a refusal, by its name in the document."""
    responses: dict[str, dict[str, Any]] = {}
    for name, (_, headers) in REFUSALS.items():
        responses[name] = {"description": _REFUSED, "headers": {**_EVERY, **headers}, "content": content}
    for name in _BEHIND_LIMITS:
        limits = {**responses[name]["headers"], **_LIMITS}
        responses[_limited(name)] = {**responses[name], "headers": limits}
    return responses


def refusals(*, limited: bool) -> dict[str, str]:
    """The name of the response by the number, as JSON has it."""
    return {
        str(number): _limited(name) if limited and name in _BEHIND_LIMITS else name
        for name, (numbers, _) in REFUSALS.items()
        for number in sorted(numbers)
    }


def _limited(name: str) -> str:
    return f"{name}UnderLimits"
