"""What bringing a folder into a collection came to.  As `nouns`."""

from dataclasses import dataclass

from trivium_client.document_nouns import Document


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that did not become a document, and why."""

    path: str
    document: str
    reason: str


@dataclass(frozen=True, slots=True)
class FolderReport:
    """One pass over a folder.

    `stored` documents are new or changed, as they were acknowledged; `unchanged` files were not sent.  `missing` are
    documents that came from this folder and whose files are gone, `pruned` those of them that were deleted.  `waits`
    says what a pass that is followed by another one waits for, `left_out` which files no ending marks as a document.
    """

    stored: tuple[Document, ...] = ()
    unchanged: int = 0
    refused: tuple[RefusedFile, ...] = ()
    missing: tuple[str, ...] = ()
    pruned: tuple[str, ...] = ()
    waits: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def silent(self) -> bool:
        """Whether it changed nothing and has nothing to say."""
        return not (self.stored or self.refused or self.pruned or self.waits)
