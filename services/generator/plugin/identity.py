"""The file that says which version a folder of weights is, and the proof that it is.

Written by the service when it has checked every byte, read by the engine's worker when
it loads: the one piece of knowledge that both sides share.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

IDENTITY_FILE = "identity.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_READ_BYTES = 1 << 20


class IdentityMismatch(ValueError):
    """The weights in a folder are not the ones that its identity names."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Version (sha256:… of the manifest), digest of the weights file (sha256:…), largest rank."""

    version: str
    weights_digest: str
    rank: int

    def text(self) -> str:
        """As it stands in the file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> Identity:
        """What the folder says it is, not yet proven.  Raises FileNotFoundError."""
        return cls(**json.loads((folder / IDENTITY_FILE).read_text("utf-8")))

    @classmethod
    def proven(cls, folder: Path) -> Identity:
        """What the folder says it is, once its weights hash to that.  Raises IdentityMismatch."""
        identity = cls.read(folder)
        digest = hashlib.sha256()
        with open(folder / WEIGHTS_FILE, "rb") as weights:
            while chunk := weights.read(_READ_BYTES):
                digest.update(chunk)
        if f"sha256:{digest.hexdigest()}" != identity.weights_digest:
            raise IdentityMismatch(f"the weights of {folder.name} differ from the digest in {IDENTITY_FILE}")
        return identity
