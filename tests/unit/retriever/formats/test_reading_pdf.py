"""A good PDF: its words, headings, tables, columns and pages."""

from fpdf import FPDF

from services.retriever.documents.media import MediaType
from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.reading import assert_whole, blocks, read


def typeset(write):
    made = FPDF()
    made.set_auto_page_break(False)
    write(made)
    return bytes(made.output())


def put(made, x, y, text, size=10, style=""):
    made.set_font("Helvetica", style=style, size=size)
    made.text(x, y, text)


def test_a_pdf_is_read_with_headings_pages_and_words_made_whole():
    def write(made):
        for number, (heading, lines) in enumerate(
            [
                (
                    "Mooring",
                    [
                        "A mooring costs fourteen crowns a night, water in-",
                        "cluded. A well-known keeper",
                        "takes the money.",
                    ],
                ),
                (
                    "Storms",
                    ["When the wind blows from the north the flood gate is", "closed. That keeper is well-", "known."],
                ),
                ("Dogs", ["A dog crosses free if it sits on the floor of the", "ferry and is quiet."]),
            ],
            start=1,
        ):
            made.add_page()
            put(made, 20, 10, f"Harbour handbook {number}", 8)
            put(made, 20, 30, heading, 16, "B")
            for at, line in enumerate(lines):
                put(made, 20, 40 + 5 * at, line)
            put(made, 100, 290, f"Page {number} of 3", 8)

    found = read(typeset(write), MediaType.PDF)
    assert found.text == (
        "# Mooring\n\nA mooring costs fourteen crowns a night, water included. A well-known keeper takes the money.\n\n"
        "# Storms\n\nWhen the wind blows from the north the flood gate is closed. That keeper is well-known.\n\n"
        "# Dogs\n\nA dog crosses free if it sits on the floor of the ferry and is quiet."
    )
    assert found.pages == tuple(found.text.index(f"# {heading}") for heading in ("Mooring", "Storms", "Dogs"))
    assert_whole(found)
    assert blocks(found)[1] == (
        "paragraph",
        ("Mooring",),
        ["A mooring costs fourteen crowns a night, water included.", "A well-known keeper takes the money."],
    )


def test_pages_of_a_pdf_that_begin_alike_keep_their_words():
    pages = [
        f"Page {n} of the log. Boat {n} has paid its crowns.\nThe keeper has signed for boat {n}." for n in range(9)
    ]
    found = read(building.pdf(*pages), MediaType.PDF)
    for number, start in enumerate(found.pages):
        assert found.text[start:].startswith(f"Page {number} of the log. Boat {number} has paid its crowns.")


def test_two_columns_of_a_pdf_are_read_one_after_the_other():
    left = [f"left line {n} tells about the harbour and its boats" for n in range(12)]
    right = [f"right line {n} tells about the keeper and his dog" for n in range(12)]

    def write(made):
        made.add_page()
        put(made, 20, 20, "A title that reaches over both of the columns of this page", 16, "B")
        for at, pair in enumerate(zip(left, right, strict=True)):
            # Line by line across the columns, as some programs write them.
            for x, line in zip((15, 110), pair, strict=True):
                put(made, x, 35 + 5 * at, line)

    text = read(typeset(write), MediaType.PDF).text
    assert text.split("\n\n", 1)[1].replace("\n\n", " ") == " ".join([*left, *right])


def test_a_table_of_a_pdf_keeps_its_rows():
    rows = [("Wind", "Flag", "Gate"), ("8 Beaufort", "red", "open"), ("10 Beaufort", "black", "closed")]

    def write(made):
        made.add_page()
        put(made, 20, 20, "When the barometer falls the keeper looks at this table first.")
        for at, row in enumerate(rows):
            for x, cell in zip((20, 80, 140), row, strict=True):
                put(made, x, 40 + 6 * at, cell, style="" if at else "B")

    found = read(typeset(write), MediaType.PDF)
    table = "| Wind | Flag | Gate |\n| --- | --- | --- |\n| 8 Beaufort | red | open |\n| 10 Beaufort | black | closed |"
    assert found.text.endswith(table)
    assert blocks(found)[-1][0] == "table"


def test_bookmarks_of_a_pdf_are_its_headings():
    def write(made):
        for level, heading in enumerate(["Mooring", "Prices"]):
            made.add_page()
            made.start_section(heading, level=level)
            put(made, 20, 20, heading)
            put(made, 20, 30, "A mooring costs fourteen crowns a night.")

    found = read(typeset(write), MediaType.PDF)
    assert [path for kind, path, _ in blocks(found) if kind == "heading"] == [("Mooring",), ("Mooring", "Prices")]


def test_pages_of_a_pdf_that_are_pictures_are_told():
    def write(made):
        from PIL import Image

        made.add_page()
        put(made, 20, 20, "This page has a text that can be selected.")
        made.add_page()
        made.image(Image.new("L", (9, 9)), w=100)

    found = read(typeset(write), MediaType.PDF)
    assert found.notice == "1 of its 2 pages are pictures without text, which were not read."
