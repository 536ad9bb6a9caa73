"""What the registry says of a version, held to the version's own id.

Invariant: whatever is read from a manifest was read from a text that hashes to the id, so it does not matter who kept it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """What the registry says of a version; ``manifest`` is the text that the id is the digest of.

    ``base_version`` is the tenant's full model that an adapter is tied to; empty for a base of the deployment.
    """

    version: str
    manifest: str
    base_version: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the generator needs of a manifest, once it hashed to the version's id."""

    tenant: str
    model: str
    kind: str
    base_digest: str
    template_digest: str
    files: dict[str, tuple[str, int]]
    text: str


def read_manifest(facts: VersionFacts) -> Manifest:
    """Parse a manifest whose digest is the version's id.  Raises WEIGHTS_REFUSED."""
    digest = f"sha256:{hashlib.sha256(facts.manifest.encode()).hexdigest()}"
    if digest != facts.version:
        raise Failure(Reason.WEIGHTS_REFUSED, problem=f"the manifest has digest {digest}, not {facts.version}")
    document = json.loads(facts.manifest)
    files = {item["filename"]: (item["sha256"], int(item["size_bytes"])) for item in document["files"]}
    return Manifest(
        document["tenant"],
        document["model"],
        document["kind"],
        document["base_digest"],
        document["template_digest"],
        files,
        facts.manifest,
    )
