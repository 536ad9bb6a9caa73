"""Every fourth read of a model is answered as its first was.

The answer before would be too little of a lie: mostly nobody has written since, and in some races nobody ever has.
"""

from collections import Counter
from typing import Any

from services.registry.models import Models

_read = Models.get
_first: dict[str, Any] = {}
_reads: Counter[str] = Counter()


async def stale(self: Models, caller: Any, model: str) -> Any:
    """Read, and answer so or as at first."""
    found = await _read(self, caller, model)
    first = _first.setdefault(model, found)
    _reads[model] += 1
    return found if _reads[model] % 4 else first


Models.get = stale  # type: ignore[method-assign]  # that is the lie
