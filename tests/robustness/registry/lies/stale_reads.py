"""Of two reads of a model the second may be answered with the first's answer."""

import itertools
from typing import Any

from services.registry.models import Models

_read, _count = Models.get, itertools.count()
_answers: dict[str, Any] = {}


async def stale(self: Models, caller: Any, model: str) -> Any:
    """Answer every fourth time as before."""
    if next(_count) % 4 == 3 and model in _answers:
        return _answers[model]
    _answers[model] = await _read(self, caller, model)
    return _answers[model]


Models.get = stale  # type: ignore[method-assign]  # that is the lie
