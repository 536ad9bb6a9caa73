"""The archive around an Office document, looked at before any library opens it.

Invariant: what passes is a whole archive without macros, encryption or entity declarations, whose files together are
bounded before one of them is unpacked.
"""

import io
import re
import zipfile

from services.retriever.formats.unreadable import Unreadable, damaged

_OLE = b"\xd0\xcf\x11\xe0"
# The name of the stream that holds an encrypted document, as such files write it.
_ENCRYPTED_STREAM = "EncryptedPackage".encode("utf-16-le")
_MOST_FILES = 20_000
_MOST_BYTES = 512 * 1024**2
# Text of an Office document packs to a tenth; a hundredth of a big one is a bomb.
_MOST_RATIO = 100
_HARMLESS_BYTES = 64 * 1024**2
_DECLARATION = re.compile(rb"<\0?!\0?(?:D\0?O\0?C\0?T\0?Y\0?P\0?E|E\0?N\0?T\0?I\0?T\0?Y)", re.IGNORECASE)
_OTHERS = {
    "xl/workbook.xml": ("it is an Excel workbook", "Save its sheets as .csv, and send those."),
    "ppt/presentation.xml": ("it is a PowerPoint presentation", "Send it under a name that ends in .pptx."),
    "word/document.xml": ("it is a Word document", "Send it under a name that ends in .docx."),
    "mimetype": ("it is an OpenDocument or EPUB file", "Save it as .docx or .pptx, and send that."),
}


def require_sound(content: bytes, main_part: str, what: str) -> None:
    """Raises Unreadable unless this is an archive that holds ``main_part`` and may be unpacked."""
    if content.startswith(_OLE):
        if _ENCRYPTED_STREAM in content:
            raise Unreadable("it is protected by a password", "Remove the password, and send it again.")
        raise Unreadable("it is an old Office document", "Save it in the newer format (.docx, .pptx), and send that.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _require_small(archive.infolist(), len(content))
            names = archive.namelist()
            _require_kind(names, main_part, what)
            _require_harmless(archive, names, what)
    # NotImplementedError: packed or locked in a way that zipfile does not know.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise damaged(what) from error


def _require_small(files: list[zipfile.ZipInfo], packed_bytes: int) -> None:
    unpacked = sum(file.file_size for file in files)
    ratio = unpacked / max(1, packed_bytes)
    if len(files) > _MOST_FILES or unpacked > _MOST_BYTES or (unpacked > _HARMLESS_BYTES and ratio > _MOST_RATIO):
        problem = f"it unpacks to {unpacked} bytes in {len(files)} files, as a bomb does"
        raise Unreadable(problem, "Leave out what makes it so large, and send it again.")
    for file in files:
        if file.flag_bits & 1:
            raise Unreadable("it is protected by a password", "Remove the password, and send it again.")
        if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damaged("Office document")


def _require_kind(names: list[str], main_part: str, what: str) -> None:
    if main_part in names:
        return
    for part, (problem, remedy) in _OTHERS.items():
        if part in names:
            raise Unreadable(problem, remedy)
    raise damaged(what)


def _require_harmless(archive: zipfile.ZipFile, names: list[str], what: str) -> None:
    if len(set(names)) < len(names):
        raise damaged(what)
    types = archive.read("[Content_Types].xml") if "[Content_Types].xml" in names else b""
    if b"macroEnabled" in types or any(name.lower().endswith("vbaproject.bin") for name in names):
        raise Unreadable("it holds macros", "Save it without macros (.docx, .pptx), and send that.")
    for name in names:
        if name.endswith((".xml", ".rels")) and _DECLARATION.search(archive.read(name)):
            problem = f"its part {name[:100]} declares entities, which may grow without bound"
            raise Unreadable(problem, "Save it anew in the program that made it, and send that.")
