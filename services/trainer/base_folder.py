"""Whether the folder of a base still is the base that jobs were ordered on.

Invariant: no process trains on a folder, and no version takes files from one, whose bytes have another digest than the
job's order: a base of the deployment's is known by a path, and what lies there can be edited.
"""

from pathlib import Path

from services.chassis.errors import Failure, Reason
from services.chassis.model_cache import read_digest


def require_unchanged(folder: Path, name: str, digest: str) -> None:
    """Raise BASE_CHANGED where the folder of the base has another digest.  Blocks: it reads every byte.

    What it costs is little beside loading the base.  An order of an earlier release names no digest.
    """
    # A folder that is away, as its disk may be, is not another: loading it fails, and is tried again.
    if not digest or not folder.is_dir():
        return
    found = read_digest(folder)
    if found != digest:
        raise Failure(Reason.BASE_CHANGED, name=name, digest=digest, known=f"{name} ({found})")
