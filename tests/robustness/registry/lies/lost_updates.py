"""An update of a model takes any etag for the present one."""

from dataclasses import replace
from typing import Any

from services.registry.models import Models

_update = Models.update


async def careless(self: Models, caller: Any, model: str, change: Any) -> Any:
    """Forget the condition."""
    return await _update(self, caller, model, replace(change, etag=""))


Models.update = careless  # type: ignore[method-assign]  # that is the lie
