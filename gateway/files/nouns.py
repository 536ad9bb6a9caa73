"""What is known of a file beside the file itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Holders:
    """The vector stores in which a file is a document that the caller may read, and whether it is a hidden one in others."""

    stores: tuple[str, ...] = ()
    hidden: bool = False
