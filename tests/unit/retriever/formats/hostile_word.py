"""Word documents that nobody should be able to hurt a reader with."""

import io
import zipfile

from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.hostile_parts import OLE, Register, body, good_slides, good_word, laughs, words, zeros

register = Register()


@register.builder
def word_cut_short(rng):
    return "a.docx", good_word()[: rng.randint(10, len(good_word()) - 30)], "Word document"


@register.builder
def word_that_is_text(rng):
    return "a.docx", words(rng).encode(), "Word document"


@register.builder
def word_of_noise(rng):
    return "a.docx", b"PK\x03\x04" + rng.randbytes(rng.randint(50, 5000)), "Word document"


@register.builder
def word_empty_archive(rng):
    return "a.docx", building.zipped({words(rng, 1): b""} if rng.random() < 0.5 else {}), "Word document"


@register.builder
def word_that_is_a_workbook(rng):
    return "a.docx", building.zipped({"xl/workbook.xml": words(rng).encode()}), "Excel"


@register.builder
def word_that_is_slides(rng):
    return "a.docx", good_slides(), "PowerPoint"


@register.builder
def word_that_is_an_epub(rng):
    return "a.docx", building.zipped({"mimetype": b"application/epub+zip"}), "OpenDocument or EPUB"


@register.builder
def word_of_the_old_kind(rng):
    return "a.docx", OLE + rng.randbytes(4096), "old Office document"


@register.builder
def word_locked(rng):
    return "a.docx", OLE + rng.randbytes(512) + "EncryptedPackage".encode("utf-16-le") + rng.randbytes(99), "password"


@register.builder
def word_with_macros(rng):
    return "a.docx", building.with_parts(good_word(), {"word/vbaProject.bin": rng.randbytes(99)}), "macros"


@register.builder
def word_that_says_macros(rng):
    types = building.parts_of(good_word())["[Content_Types].xml"].replace(
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        b"application/vnd.ms-word.document.macroEnabled.main+xml",
    )
    return "a.docx", building.with_parts(good_word(), {"[Content_Types].xml": types}), "macros"


@register.builder
def word_that_unpacks_to_much(rng):
    return "a.docx", building.with_parts(good_word(), {f"word/media/{words(rng, 1)}.bmp": zeros(80)}), "bomb"


@register.builder
def word_with_text_that_unpacks_to_much(rng):
    text = body(f"<w:p><w:r><w:t>{'a ' * (40 * 1024 * 1024)}</w:t></w:r></w:p>")
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "bomb"


@register.builder
def word_of_too_many_files(rng):
    out = io.BytesIO(good_word())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for number in range(20_001):
            archive.writestr(f"x/{number}", b"")
    return "a.docx", out.getvalue(), "bomb"


@register.builder
def word_with_laughs(rng):
    text = b"".join([laughs(rng).encode(), body("<w:p><w:r><w:t>&a5;</w:t></w:r></w:p>").split(b"?>", 1)[1]])
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "entities"


@register.builder
def word_that_asks_for_a_file(rng):
    path = rng.choice(["/etc/passwd", "/proc/self/environ", "/dev/zero"])
    text = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{path}">]>'.encode() + body("<w:p>&e;</w:p>").split(b"?>", 1)[1]
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "entities"


@register.builder
def word_that_asks_the_network(rng):
    text = f'<!DOCTYPE x SYSTEM "http://192.0.2.{rng.randint(1, 9)}/x.dtd">'.encode() + body("").split(b"?>", 1)[1]
    return "a.docx", building.with_parts(good_word(), {"word/styles.xml": text}), "entities"


@register.builder
def word_with_laughs_in_utf16(rng):
    inside = laughs(rng) + body("<w:p><w:r><w:t>&a5;</w:t></w:r></w:p>").split(b"?>", 1)[1].decode()
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": inside.encode("utf-16")}), "entities"


@register.builder
def word_of_broken_markup(rng):
    text = body(f"<w:p><w:r><w:t>{words(rng)}</w:p>")
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "Word document"


@register.builder
def word_of_deep_markup(rng):
    depth = rng.randint(300, 90_000)
    text = body("<w:p>" * depth + "</w:p>" * depth)
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), ""


@register.builder
def word_of_nested_controls(rng):
    depth = rng.randint(60, 120)
    inside = "<w:sdt><w:sdtContent>" * depth + "<w:p/>" + "</w:sdtContent></w:sdt>" * depth
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": body(inside)}), ""


@register.builder
def word_without_words(rng):
    return "a.docx", building.plain_word(*[" " * rng.randint(0, 9)] * 3), "no text"


@register.builder
def word_without_types(rng):
    return "a.docx", building.with_parts(good_word(), {"[Content_Types].xml": None}), "Word document"


@register.builder
def word_without_relations(rng):
    return "a.docx", building.with_parts(good_word(), {"_rels/.rels": None}), "Word document"


@register.builder
def word_packed_strangely(rng):
    kind = rng.choice([zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    return "a.docx", building.zipped(building.parts_of(good_word()), kind), "Office document"


@register.builder
def word_with_a_wrong_checksum(rng):
    stored = building.zipped(building.parts_of(good_word()), zipfile.ZIP_STORED)
    at = stored.index(b"fourteen crowns")
    return "a.docx", stored[:at] + rng.choice([b"F", b"t", b"x"]) + stored[at + 1 :], "Word document"


@register.builder
def word_with_files_of_one_name(rng):
    out = io.BytesIO(good_word())
    with zipfile.ZipFile(out, "a") as archive:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("word/document.xml", body(words(rng)))
    return "a.docx", out.getvalue(), "Word document"


@register.builder
def word_with_locked_files(rng):
    whole = bytearray(good_word())
    at = whole.index(b"PK\x01\x02")
    while at >= 0:
        whole[at + 8] |= 1
        at = whole.find(b"PK\x01\x02", at + 4)
    return "a.docx", bytes(whole), "password"
