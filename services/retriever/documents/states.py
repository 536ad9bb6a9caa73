"""How far a document, or one of its versions, has come."""

from enum import StrEnum


class State(StrEnum):
    """As stored."""

    PENDING = "pending"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    # Of a version alone: a newer one has taken its place.
    SUPERSEDED = "superseded"

    @classmethod
    def unfinished(cls) -> tuple["State", "State"]:
        """The states of documents that ingestion still has to do with."""
        return cls.PENDING, cls.RUNNING
