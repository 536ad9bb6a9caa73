"""Holds an answer to the version that was asked for, by the engine's own word.

Invariant: the version that a response names is the one the engine's worker read from
the slot that multiplied the rows.  It is compared with the request, never copied from
it, and no text leaves before its piece was compared.
"""

from __future__ import annotations

from services.chassis.errors import Failure, Reason
from services.generator.engine import BASE_SLOT, Attestation


def attested(told: Attestation | None, *, wanted: str, base_digest: str) -> Attestation:
    """The attestation, if it says what was asked for.

    ``wanted`` is an adapter's version, empty for the base alone; ``base_digest`` the base under it.
    Raises VERSION_MISMATCH: nothing of such an answer may be served.
    """
    if told is None:
        raise _mismatch("nothing (the step carries no attestation)", wanted, base_digest)
    if told.violation:
        raise _mismatch(told.violation, wanted, base_digest)
    if told.version != wanted or (told.slot == BASE_SLOT) != (wanted == ""):
        raise _mismatch(f"{told.version or 'the base'} in slot {told.slot}", wanted, base_digest)
    if told.base_digest != base_digest:
        raise _mismatch(f"the base {told.base_digest or 'without a digest'}", wanted, base_digest)
    return told


def _mismatch(found: str, wanted: str, base_digest: str) -> Failure:
    return Failure(Reason.VERSION_MISMATCH, attested=found, base=base_digest, resolved=wanted or "the base")
