"""The steps of a durable write, by name, so that a test can end the process between any two of them.

Invariant: between two things that outlive the process (a file made, named or removed, an
object stored, a statement, a commit) stands a step; ``tests/robustness/registry`` sees every
such thing happen and fails where none does.  In production nobody listens: a step costs a
look at one name, and no setting changes that.
"""

from collections.abc import Callable
from enum import StrEnum, unique


@unique
class Step(StrEnum):
    """What has just been done."""

    # An upload that is received
    SPACE_FOUND = "space found"
    UPLOAD_FOLDER_MADE = "upload folder made"
    UPLOAD_OPENED = "upload opened"
    UPLOAD_GREW = "upload grew"
    UPLOAD_NAMED = "upload named"
    # A finished file that is given to the blobs
    BLOB_STORED = "blob stored"
    BLOB_SYNCED = "blob synced"
    STAGED_REMOVED = "staged removed"
    # A copy of a blob that is read
    COPY_MADE = "copy made"
    COPY_REMOVED = "copy removed"
    # A transaction that writes
    WRITE_BEGUN = "write begun"
    WRITE_STATEMENT = "write statement"
    WRITE_READY = "write ready"
    WRITE_COMMITTED = "write committed"


# Set by a test in the process that it starts, before anything of the service is opened.
listener: Callable[[Step], None] | None = None


def passed(step: Step) -> None:
    """Note that a step is done."""
    if listener is not None:
        listener(step)
