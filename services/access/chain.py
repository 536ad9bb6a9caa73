"""What an audit event's hash is made of: itself, and the hash before it.

Invariant: an event cannot be changed, taken out or moved without every later hash being wrong.  Whoever can
write the database can compute all of them again; a hash that somebody noted outside tells that too.
"""

import hashlib
import json
from dataclasses import dataclass

GENESIS = b""


@dataclass(frozen=True, slots=True)
class Link:
    """The facts of one event that its hash covers.  ``at`` is Unix time in microseconds."""

    tenant: str
    sequence: int
    principal: str
    actor: str
    action: str
    method: str
    resource: str
    at: int
    outcome: str = ""
    request_id: str = ""
    event_id: str = ""

    def hash(self, previous: bytes) -> bytes:
        """SHA-256 over the previous hash and these facts, in this order."""
        facts: list[str | int] = [
            self.tenant,
            self.sequence,
            self.principal,
            self.actor,
            self.action,
            self.method,
            self.resource,
            self.at,
        ]
        # What access itself wrote has none, and had hashes before there were any.
        if self.event_id:
            facts += [self.outcome, self.request_id, self.event_id]
        text = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(previous + text.encode()).digest()
