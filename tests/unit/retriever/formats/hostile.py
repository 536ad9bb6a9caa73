"""Files that nobody should be able to hurt a reader with, built by code: over fifty classes, each in many variants.

Each builder takes a source of randomness, so that a seed gives the same files for ever, and returns the name and the
bytes of a file that cannot be read, with a word that its reason must hold.
"""

import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from fpdf import FPDF

from tests.unit.retriever.formats import building


@dataclass(frozen=True)
class Hostile:
    """A file, its class, and what the reason that it fails with must say."""

    kind: str
    name: str
    content: bytes
    says: str


Builder = Callable[[random.Random], tuple[str, bytes, str]]
BUILDERS: dict[str, Builder] = {}
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def hostile_files(count: int, seed: int) -> Iterator[Hostile]:
    """So many files, every class as often as the others."""
    kinds = list(BUILDERS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        name, content, says = BUILDERS[kind](random.Random(f"{seed} {number}"))
        yield Hostile(kind, name, content, says)


def builder(function: Builder) -> Builder:
    BUILDERS[function.__name__] = function
    return function


def words(rng: random.Random, count: int = 40) -> str:
    return " ".join("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(count))


@cache
def good_word() -> bytes:
    return building.plain_word("The harbour opens at six.", "A mooring costs fourteen crowns.")


@cache
def good_slides() -> bytes:
    return building.slides(("Harbour", "It opens at six", "A mooring costs fourteen crowns"))


def body(inside: str) -> bytes:
    return f'<?xml version="1.0"?><w:document {W}><w:body>{inside}</w:body></w:document>'.encode()


def laughs(rng: random.Random) -> str:
    """An entity that stands for ten of another one, nine times over."""
    depth, letter = rng.randint(6, 9), rng.choice("abcdef")
    lines = [f'<!ENTITY {letter}0 "{words(rng, 3)}">']
    lines += [f'<!ENTITY {letter}{n} "{f"&{letter}{n - 1};" * 10}">' for n in range(1, depth)]
    return f"<!DOCTYPE x [{''.join(lines)}]>"


@builder
def pdf_header_alone(rng):
    return "a.pdf", b"%PDF-1.7\n" + b"%" * rng.randint(0, 99), "PDF"


@builder
def pdf_cut_short(rng):
    whole = building.pdf(words(rng))
    return "a.pdf", whole[: rng.randint(20, 60)], "PDF"


@builder
def pdf_of_noise(rng):
    return "a.pdf", b"%PDF-1.4\n" + rng.randbytes(rng.randint(100, 9000)), "PDF"


@builder
def pdf_of_zeros(rng):
    return "a.pdf", bytes(rng.randint(1, 100_000)), "PDF"


@builder
def pdf_locked(rng):
    return "a.pdf", building.pdf(words(rng), password=words(rng, 1)), "password"


@builder
def pdf_scanned(rng):
    from PIL import Image

    made = FPDF()
    for _ in range(rng.randint(1, 3)):
        made.add_page()
        made.image(Image.frombytes("L", (20, 20), rng.randbytes(400)), w=100)
    return "a.pdf", bytes(made.output()), "scanned PDF without text"


@builder
def pdf_blank(rng):
    return "a.pdf", building.pdf(*[""] * rng.randint(1, 5)), "without text"


@builder
def pdf_without_pages(rng):
    return "a.pdf", _pdf_objects([b"<< /Type /Pages /Kids [] /Count 0 >>"], rng), "PDF"


@builder
def pdf_whose_pages_go_round(rng):
    kids = b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count %d >>" % rng.randint(1, 9)
    return "a.pdf", _pdf_objects([kids], rng), "PDF"


@builder
def pdf_of_too_many_pages(rng):
    # No object for the page: the tree alone claims them all.
    count = rng.randint(20_001, 40_000)
    kids = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * count, count)
    return "a.pdf", _pdf_objects([kids, b"<< /Type /Page /Parent 2 0 R >>"], rng), "pages"


@builder
def pdf_with_a_stream_that_grows(rng):
    import zlib

    size = rng.randint(200, 400) * 1024 * 1024
    packer = zlib.compressobj(9)
    block = b" " * (1024 * 1024)
    packed = b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>"
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)
    return "a.pdf", _pdf_objects([b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream], rng), ""


@builder
def pdf_whose_forms_draw_one_another(rng):
    depth, times = rng.randint(9, 12), rng.randint(9, 12)
    resources = [b"/XObject << /F %d 0 R >>" % (number + 1) for number in range(4, 4 + depth)]
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << %s >> >>" % resources[0]
    forms = [_form(b"/F Do " * times, resource) for resource in resources[1:]]
    content = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(b"/F Do " * times), b"/F Do " * times)
    last = _form(b"BT /F1 9 Tf (x) Tj ET", b"/Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>")
    pages = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return "a.pdf", _pdf_objects([pages, page, content, *forms, last], rng), "took more than"


def _form(content: bytes, resources: bytes) -> bytes:
    head = b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << %s >> /Length %d >>"
    return head % (resources, len(content)) + b"\nstream\n" + content + b"\nendstream"


def _pdf_objects(objects: list[bytes], rng: random.Random) -> bytes:
    """A PDF of a catalog and these objects, numbered from 2 on."""
    out = io.BytesIO()
    out.write(b"%PDF-1.5\n%" + words(rng, 2).encode() + b"\n")
    places = []
    for number, content in enumerate([b"<< /Type /Catalog /Pages 2 0 R >>", *objects], start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    at = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(places) + 1, at))
    return out.getvalue()


@builder
def word_cut_short(rng):
    return "a.docx", good_word()[: rng.randint(10, len(good_word()) - 30)], "Word document"


@builder
def word_that_is_text(rng):
    return "a.docx", words(rng).encode(), "Word document"


@builder
def word_of_noise(rng):
    return "a.docx", b"PK\x03\x04" + rng.randbytes(rng.randint(50, 5000)), "Word document"


@builder
def word_empty_archive(rng):
    return "a.docx", building.zipped({words(rng, 1): b""} if rng.random() < 0.5 else {}), "Word document"


@builder
def word_that_is_a_workbook(rng):
    return "a.docx", building.zipped({"xl/workbook.xml": words(rng).encode()}), "Excel"


@builder
def word_that_is_slides(rng):
    return "a.docx", good_slides(), "PowerPoint"


@builder
def word_that_is_an_epub(rng):
    return "a.docx", building.zipped({"mimetype": b"application/epub+zip"}), "OpenDocument or EPUB"


@builder
def word_of_the_old_kind(rng):
    return "a.docx", OLE + rng.randbytes(4096), "old Office document"


@builder
def word_locked(rng):
    return "a.docx", OLE + rng.randbytes(512) + "EncryptedPackage".encode("utf-16-le") + rng.randbytes(99), "password"


@builder
def word_with_macros(rng):
    return "a.docx", building.with_parts(good_word(), {"word/vbaProject.bin": rng.randbytes(99)}), "macros"


@builder
def word_that_says_macros(rng):
    types = building.parts_of(good_word())["[Content_Types].xml"].replace(
        b"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        b"application/vnd.ms-word.document.macroEnabled.main+xml",
    )
    return "a.docx", building.with_parts(good_word(), {"[Content_Types].xml": types}), "macros"


@cache
def zeros(megabytes: int) -> bytes:
    return bytes(megabytes * 1024 * 1024)


@builder
def word_that_unpacks_to_much(rng):
    return "a.docx", building.with_parts(good_word(), {f"word/media/{words(rng, 1)}.bmp": zeros(80)}), "bomb"


@builder
def word_with_text_that_unpacks_to_much(rng):
    text = body(f"<w:p><w:r><w:t>{'a ' * (40 * 1024 * 1024)}</w:t></w:r></w:p>")
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "bomb"


@builder
def word_of_too_many_files(rng):
    out = io.BytesIO(good_word())
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for number in range(20_001):
            archive.writestr(f"x/{number}", b"")
    return "a.docx", out.getvalue(), "bomb"


@builder
def word_with_laughs(rng):
    text = b"".join([laughs(rng).encode(), body("<w:p><w:r><w:t>&a5;</w:t></w:r></w:p>").split(b"?>", 1)[1]])
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "entities"


@builder
def word_that_asks_for_a_file(rng):
    path = rng.choice(["/etc/passwd", "/proc/self/environ", "/dev/zero"])
    text = f'<!DOCTYPE x [<!ENTITY e SYSTEM "file://{path}">]>'.encode() + body("<w:p>&e;</w:p>").split(b"?>", 1)[1]
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "entities"


@builder
def word_that_asks_the_network(rng):
    text = f'<!DOCTYPE x SYSTEM "http://192.0.2.{rng.randint(1, 9)}/x.dtd">'.encode() + body("").split(b"?>", 1)[1]
    return "a.docx", building.with_parts(good_word(), {"word/styles.xml": text}), "entities"


@builder
def word_with_laughs_in_utf16(rng):
    inside = laughs(rng) + body("<w:p><w:r><w:t>&a5;</w:t></w:r></w:p>").split(b"?>", 1)[1].decode()
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": inside.encode("utf-16")}), "entities"


@builder
def word_of_broken_markup(rng):
    text = body(f"<w:p><w:r><w:t>{words(rng)}</w:p>")
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), "Word document"


@builder
def word_of_deep_markup(rng):
    depth = rng.randint(300, 90_000)
    text = body("<w:p>" * depth + "</w:p>" * depth)
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": text}), ""


@builder
def word_of_nested_controls(rng):
    depth = rng.randint(60, 120)
    inside = "<w:sdt><w:sdtContent>" * depth + "<w:p/>" + "</w:sdtContent></w:sdt>" * depth
    return "a.docx", building.with_parts(good_word(), {"word/document.xml": body(inside)}), ""


@builder
def word_without_words(rng):
    return "a.docx", building.plain_word(*[" " * rng.randint(0, 9)] * 3), "no text"


@builder
def word_without_types(rng):
    return "a.docx", building.with_parts(good_word(), {"[Content_Types].xml": None}), "Word document"


@builder
def word_without_relations(rng):
    return "a.docx", building.with_parts(good_word(), {"_rels/.rels": None}), "Word document"


@builder
def word_packed_strangely(rng):
    kind = rng.choice([zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    return "a.docx", building.zipped(building.parts_of(good_word()), kind), "Office document"


@builder
def word_with_a_wrong_checksum(rng):
    stored = building.zipped(building.parts_of(good_word()), zipfile.ZIP_STORED)
    at = stored.index(b"fourteen crowns")
    return "a.docx", stored[:at] + rng.choice([b"F", b"t", b"x"]) + stored[at + 1 :], "Word document"


@builder
def word_with_files_of_one_name(rng):
    out = io.BytesIO(good_word())
    with zipfile.ZipFile(out, "a") as archive:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr("word/document.xml", body(words(rng)))
    return "a.docx", out.getvalue(), "Word document"


@builder
def word_with_locked_files(rng):
    whole = bytearray(good_word())
    at = whole.index(b"PK\x01\x02")
    while at >= 0:
        whole[at + 8] |= 1
        at = whole.find(b"PK\x01\x02", at + 4)
    return "a.docx", bytes(whole), "password"


@builder
def slides_cut_short(rng):
    return "a.pptx", good_slides()[: rng.randint(10, len(good_slides()) - 30)], "PowerPoint"


@builder
def slides_that_are_word(rng):
    return "a.pptx", good_word(), "Word document"


@builder
def slides_with_macros(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/vbaProject.bin": rng.randbytes(99)}), "macros"


@builder
def slides_that_unpack_to_much(rng):
    return "a.pptx", building.with_parts(good_slides(), {f"ppt/media/{words(rng, 1)}.png": zeros(90)}), "bomb"


@builder
def slides_with_laughs(rng):
    slide = building.parts_of(good_slides())["ppt/slides/slide1.xml"].split(b"?>", 1)[1]
    return (
        "a.pptx",
        building.with_parts(good_slides(), {"ppt/slides/slide1.xml": laughs(rng).encode() + slide}),
        "entit",
    )


@builder
def slides_of_broken_markup(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": words(rng).encode()}), "PowerPoint"


@builder
def slides_without_a_slide(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": None}), "PowerPoint"


@builder
def slides_without_words(rng):
    return "a.pptx", building.slides(*[(" ", "")] * rng.randint(1, 3)), "no text"


@builder
def slides_of_the_old_kind(rng):
    return "a.pptx", OLE + rng.randbytes(2048), "old Office document"


@builder
def slides_of_nested_groups(rng):
    depth = rng.randint(30, 60)
    slide = building.parts_of(good_slides())["ppt/slides/slide1.xml"].decode()
    group = '<p:grpSp><p:nvGrpSpPr><p:cNvPr id="9" name="g"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
    nested = slide.replace("</p:spTree>", f"{group * depth}{'</p:grpSp>' * depth}</p:spTree>")
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": nested.encode()}), "nested"


@builder
def page_of_scripts(rng):
    return "a.html", f"<script>{words(rng)}</script><style>b {{}}</style>".encode(), "no text"


@builder
def page_with_zeros(rng):
    return "a.html", f"<p>{words(rng)}\0</p>".encode(), "NUL"


@builder
def page_of_another_charset(rng):
    return "a.html", f"<p>{words(rng)} Fähre</p>".encode("latin-1"), "charset"


@builder
def page_of_an_unknown_charset(rng):
    return "a.html", f'<meta charset="klingon-{rng.randint(1, 9)}"><p>{words(rng)}</p>'.encode(), "klingon"


@builder
def page_of_a_slow_charset(rng):
    return "a.html", b'<meta charset="punycode"><p>' + words(rng).encode() * 999, "punycode"


@builder
def page_that_is_a_picture(rng):
    return "a.html", b"\x89PNG\r\n\x1a\n" + rng.randbytes(999), ""


@builder
def page_of_wide_letters_without_a_mark(rng):
    return "a.html", f"<p>{words(rng)}</p>".encode("utf-16-le"), "NUL"


@builder
def table_with_an_open_quote(rng):
    return "a.csv", b'name,price\nmooring,"' + b"14,2\n" * rng.randint(300_000, 400_000), "quotation mark"


@builder
def table_of_too_many_columns(rng):
    return "a.csv", b"a\n" + b",".join([b"1"] * rng.randint(10_001, 20_000)), "columns"


@builder
def table_with_zeros(rng):
    return "a.tsv", f"a\tb\n{words(rng, 2)}\t\0".encode(), "NUL"


@builder
def table_of_another_charset(rng):
    return "a.csv", f"name;price\n{words(rng, 1)} Fähre;3".encode("cp1252"), "charset"


@builder
def table_without_cells(rng):
    return "a.csv", b",;\n" * 0 + b",,\n" * rng.randint(1, 99), "no text"


@builder
def json_cut_short(rng):
    whole = json.dumps({words(rng, 1): [words(rng), {"a": 1}]})
    return "a.json", whole[: rng.randint(1, len(whole) - 1)].encode(), "not JSON"


@builder
def json_with_a_comma_too_many(rng):
    return "a.json", f'{{"a": "{words(rng)}",}}'.encode(), "not JSON"


@builder
def json_of_two_values(rng):
    return "a.json", f'{{"a": "{words(rng)}"}} {{}}'.encode(), "not JSON"


@builder
def json_nested_without_end(rng):
    depth = rng.randint(2000, 200_000)
    return "a.json", b"[" * depth + b"1" + b"]" * depth, "nested"


@builder
def json_nested_too_deep(rng):
    depth = rng.randint(102, 300)
    return "a.json", b'{"a":' * depth + b'"x"' + b"}" * depth, "nested"


@builder
def json_without_values(rng):
    return "a.json", rng.choice([b"{}", b"[]", b'""', b'{"a": {}}', b"[[], {}]"]), "no text"


@builder
def lines_of_which_one_is_broken(rng):
    lines = [json.dumps({"a": words(rng, 4)}) for _ in range(9)]
    at = rng.randrange(9)
    lines[at] = lines[at][:-3]
    return "a.jsonl", "\n".join(lines).encode(), f"line {at + 1}"
