"""The ways in which versions come to be, hung together: published, imported, merged."""

from dataclasses import dataclass
from pathlib import Path

from services.chassis.blobs import Blobs
from services.registry.bases import Bases
from services.registry.config import RegistrySettings
from services.registry.import_sources import Sources
from services.registry.importing import Importing
from services.registry.merges import Merges
from services.registry.publishing import Publishing
from services.registry.uploads import Uploads
from services.registry.verification import Verification
from services.registry.versions import Versions
from services.registry.works import Works


@dataclass(frozen=True, slots=True)
class Making:
    """The three, over the same leaves."""

    publishing: Publishing
    importing: Importing
    merges: Merges

    @classmethod
    def over(
        cls, settings: RegistrySettings, blobs: Blobs, uploads: Uploads, versions: Versions, bases: Bases, works: Works
    ) -> "Making":
        """Hang them over opened leaves; files grow beside the blobs, so that one rename takes them in."""
        beside = settings.service_dir / "blobs"
        verification = Verification(blobs, timeout_seconds=settings.inspect_seconds)
        publishing = Publishing(versions, verification, bases)
        sources = Sources(_folders(settings.import_folders), hub=settings.import_hub)
        importing = Importing(sources, uploads, verification, publishing, versions, works, beside / "imports")
        merges = Merges(blobs, uploads, publishing, versions, works, beside / "merges", settings.max_blob_bytes)
        return cls(publishing, importing, merges)

    def discard_remains(self, older_than: float) -> None:
        """Remove what imports left that nobody took up since ``older_than`` (Unix seconds).  Blocks."""
        self.importing.discard_remains(older_than)


def _folders(text: str) -> list[Path]:
    return [Path(name.strip()).expanduser().absolute() for name in text.split(",") if name.strip()]
