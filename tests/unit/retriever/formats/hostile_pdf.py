"""PDF files that nobody should be able to hurt a reader with."""

import io
import random
from datetime import UTC, datetime

from fpdf import FPDF

from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.hostile_parts import Register, words

register = Register()


@register.builder
def pdf_header_alone(rng):
    return "a.pdf", b"%PDF-1.7\n" + b"%" * rng.randint(0, 99), "PDF"


@register.builder
def pdf_cut_short(rng):
    whole = building.pdf(words(rng))
    return "a.pdf", whole[: rng.randint(20, 60)], "PDF"


@register.builder
def pdf_of_noise(rng):
    return "a.pdf", b"%PDF-1.4\n" + rng.randbytes(rng.randint(100, 9000)), "PDF"


@register.builder
def pdf_of_zeros(rng):
    return "a.pdf", bytes(rng.randint(1, 100_000)), "PDF"


@register.builder
def pdf_locked(rng):
    return "a.pdf", building.pdf(words(rng), password=words(rng, 1)), "password"


@register.builder
def pdf_scanned(rng):
    from PIL import Image

    made = FPDF()
    made.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    for _ in range(rng.randint(1, 3)):
        made.add_page()
        made.image(Image.frombytes("L", (20, 20), rng.randbytes(400)), w=100)
    return "a.pdf", bytes(made.output()), "scanned PDF without text"


@register.builder
def pdf_blank(rng):
    return "a.pdf", building.pdf(*[""] * rng.randint(1, 5)), "without text"


@register.builder
def pdf_without_pages(rng):
    return "a.pdf", _pdf_objects([b"<< /Type /Pages /Kids [] /Count 0 >>"], rng), "PDF"


@register.builder
def pdf_whose_pages_go_round(rng):
    kids = b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count %d >>" % rng.randint(1, 9)
    return "a.pdf", _pdf_objects([kids], rng), "PDF"


@register.builder
def pdf_of_too_many_pages(rng):
    # No object for the page: the tree alone claims them all.
    count = rng.randint(20_001, 40_000)
    kids = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * count, count)
    return "a.pdf", _pdf_objects([kids, b"<< /Type /Page /Parent 2 0 R >>"], rng), "pages"


@register.builder
def pdf_with_a_stream_that_grows(rng):
    import zlib

    size = rng.randint(200, 400) * 1024 * 1024
    packer = zlib.compressobj(9)
    block = b" " * (1024 * 1024)
    packed = b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R >>"
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed)
    return "a.pdf", _pdf_objects([b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page, stream], rng), ""


@register.builder
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
