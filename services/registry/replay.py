"""A request that may be a repeat: runs its effect once and answers the same every time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from services.chassis.idempotency import IdempotencyKey, once, seen


@dataclass(frozen=True, slots=True)
class Replay:
    """The identity of one request; an empty ``request_id`` in the key never repeats."""

    key: IdempotencyKey

    def json(self, session: Session, effect: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What ``effect`` returned the first time, stored in the transaction of the effect itself.

        Raises REQUEST_ID_REUSED when the id came with another request before.
        """
        text = once(session, self.key, lambda: json.dumps(effect()))
        answer: dict[str, Any] = json.loads(text)
        return answer

    def seen(self, session: Session) -> dict[str, Any] | None:
        """What :meth:`json` answered the same request before; None for a new one.  Raises REQUEST_ID_REUSED."""
        text = seen(session, self.key)
        answer: dict[str, Any] | None = None if text is None else json.loads(text)
        return answer

    def aside(self, what: str) -> "Replay":
        """For what is kept of this request although it was refused: once, and its id stays free for an answer."""
        method = f"{self.key.method} {what} {self.key.fingerprint.hex()}"
        return Replay(replace(self.key, method=method))
