"""A good file of each format but PDF: what is read, where each block stands, and on which page."""

import json

import pytest
from docx.oxml import OxmlElement
from docx.oxml.ns import qn

from services.retriever.documents import layout
from services.retriever.documents.media import MediaType
from services.retriever.formats.unreadable import Unreadable
from tests.harness.wording import missing
from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.reading import assert_whole, blocks, read

WORD_TEXT = """# Harbour handbook

## Mooring

A mooring costs 14 crowns. Water is included.

- Tie the bow
  - Twice
- Tie the stern

| Wind | Flag |
| --- | --- |
| 8 Beaufort | red |
| 10 Beaufort | black |

### Storms

The gate is closed."""


def handbook(document):
    document.add_heading("Harbour handbook", 0)
    document.add_heading("Mooring", 2)
    document.add_paragraph("A mooring costs 14 crowns. ").add_run("Water is included.").bold = True
    document.add_paragraph("Tie the bow", style="List Bullet")
    nested = document.add_paragraph("Twice")
    properties = nested._p.get_or_add_pPr()
    properties.get_or_add_numPr().get_or_add_ilvl().val = 1
    document.add_paragraph("Tie the stern", style="List Bullet")
    table = document.add_table(3, 2)
    for at, cell in enumerate(["Wind", "Flag", "8 Beaufort", "red", "10 Beaufort", "black"]):
        table.rows[at // 2].cells[at % 2].text = cell
    document.add_heading("Storms", 3)
    document.add_paragraph("The gate is closed.")


def test_a_word_document_keeps_headings_lists_and_tables_at_exact_places():
    found = read(building.word(handbook), MediaType.DOCX)
    assert found.text == WORD_TEXT
    assert_whole(found)
    assert found.outline.title == "Harbour handbook"
    mooring = ("Harbour handbook", "Mooring")
    assert blocks(found) == [
        ("heading", ("Harbour handbook",), ["# Harbour handbook"]),
        ("heading", mooring, ["## Mooring"]),
        ("paragraph", mooring, ["A mooring costs 14 crowns.", "Water is included."]),
        ("list", mooring, ["- Tie the bow", "- Twice", "- Tie the stern"]),
        ("table", mooring, ["| Wind | Flag |\n| --- | --- |", "| 8 Beaufort | red |", "| 10 Beaufort | black |"]),
        ("heading", (*mooring, "Storms"), ["### Storms"]),
        ("paragraph", (*mooring, "Storms"), ["The gate is closed."]),
    ]


def test_what_was_deleted_in_a_word_document_is_not_read_and_what_was_inserted_is():
    def write(document):
        paragraph = document.add_paragraph("The gate is ")
        for tag, text_tag, words in (("w:del", "w:delText", "open"), ("w:ins", "w:t", "closed")):
            change, run, text = OxmlElement(tag), OxmlElement("w:r"), OxmlElement(text_tag)
            text.text = words
            run.append(text)
            change.append(run)
            paragraph._p.append(change)
        control, content = OxmlElement("w:sdt"), OxmlElement("w:sdtContent")
        content.append(document.add_paragraph("Said in a control.")._p)
        control.append(content)
        paragraph._p.addnext(control)

    assert read(building.word(write), MediaType.DOCX).text == "The gate is closed\n\nSaid in a control."


def test_a_numbered_list_of_a_word_document_is_counted():
    def write(document):
        for step in ("Cast off", "Set sail"):
            document.add_paragraph(step)._p.get_or_add_pPr().get_or_add_numPr().get_or_add_numId().val = 77
        numbering = document.part.numbering_part.element
        kind, level, form, listed, of = (
            OxmlElement(tag) for tag in ("w:abstractNum", "w:lvl", "w:numFmt", "w:num", "w:abstractNumId")
        )
        for element, name, value in (
            (kind, "w:abstractNumId", "77"),
            (level, "w:ilvl", "0"),
            (form, "w:val", "decimal"),
            (listed, "w:numId", "77"),
            (of, "w:val", "77"),
        ):
            element.set(qn(name), value)
        level.append(form)
        kind.append(level)
        listed.append(of)
        numbering.insert(0, kind)
        numbering.append(listed)

    assert read(building.word(write), MediaType.DOCX).text == "1. Cast off\n2. Set sail"


PAGE = """<!doctype html><html><head><title>Harbour | Town</title><script>track()</script></head><body>
<header><a href="/">Town</a></header><nav><a href="/a">Home</a> <a href="/b">News</a></nav>
<div class="cookie-banner">We use cookies.</div>
<div class="content"><h1>Harbour <em>handbook</em><a href="#x"> #</a></h1>
<p>A mooring costs <b>14</b>&nbsp;crowns.
Water is included.</p>
<ol><li>Tie the bow<ul><li>twice</li></ul></li><li>Tie the stern</li></ol>
<h2>Storms</h2><table><tr><th>Wind</th><th>Flag</th></tr><tr><td rowspan=2>8</td><td>red</td></tr>
<tr><td>black</td></tr></table><pre>
wind:  8
  flag: red
</pre><p style="display: none">unseen</p></div>
<ul class="links"><li><a href=1>One</a></li><li><a href=2>Two</a></li><li><a href=3>Three</a></li>
<li><a href=4>Four</a></li><li><a href=5>Five</a></li></ul>
<aside>Buy a boat!</aside><footer>© Town</footer></body></html>"""
PAGE_TEXT = """# Harbour handbook

A mooring costs 14 crowns. Water is included.

1. Tie the bow
  - twice
2. Tie the stern

## Storms

| Wind | Flag |
| --- | --- |
| 8 | red |
| 8 | black |

wind:  8
  flag: red"""


def test_a_page_is_read_without_what_surrounds_it():
    found = read(PAGE, MediaType.HTML)
    assert found.text == PAGE_TEXT
    assert_whole(found)
    assert found.outline.title == "Harbour handbook"
    assert blocks(found)[-1] == ("code", ("Harbour handbook", "Storms"), ["wind:  8", "flag: red"])


def test_a_page_that_names_its_main_part_is_read_by_it():
    words = "The harbour opens at six. " * 20
    found = read(f"<div>Latest offers</div><main><p>{words}</p></main><div>More offers</div>", MediaType.HTML)
    assert found.text == words.strip()


def test_a_page_that_is_all_links_is_read_all_the_same():
    links = "".join(f"<li><a href={n}>Chapter {n}</a></li>" for n in range(9))
    found = read(f"<title>Contents</title><nav>Up</nav><ul>{links}</ul>", MediaType.HTML)
    assert "- Chapter 8" in found.text
    assert found.outline.title == "Contents"


def test_a_short_page_is_read_without_what_surrounds_it_all_the_same():
    around = "<div class=navheader><a href=a>Prev</a> <a href=b>Up</a> Chapter 44. A long title of a chapter</div>" * 9
    page = f"{around}<h2>44.3. Sharing</h2><p>The dictionary keeps values between calls of a function.</p>{around}"
    assert read(page, MediaType.HTML).text == (
        "## 44.3. Sharing\n\nThe dictionary keeps values between calls of a function."
    )


def test_a_section_whose_title_is_a_word_of_navigation_is_read():
    page = '<div class="sect1" id="menus-sharing"><h2>Sharing</h2><p>A dictionary keeps values.</p></div>'
    assert read(page, MediaType.HTML).text == "## Sharing\n\nA dictionary keeps values."
    assert read(f'{page}<div id="site-footer">Imprint</div>', MediaType.HTML).text.endswith("keeps values.")


def test_a_term_stays_with_what_it_introduces():
    page = (
        "<dl><dt>wait (integer)</dt><dd><p>Seconds.</p><p>Ten.</p></dd><dt>-q<br>--quiet</dt><dd>Say less.</dd>"
        "<dt>lone</dt><dt>code</dt><dd><pre>go</pre></dd><dt>last</dt></dl><p>Below.</p>"
    )
    found = read(page, MediaType.HTML)
    pieces = ["wait (integer)\nSeconds.", "Ten.", "-q\n--quiet\nSay less.", "lone", "code", "go", "last", "Below."]
    assert found.text == "\n\n".join(pieces)
    assert_whole(found)


def test_what_follows_a_note_stands_under_the_heading_above_it():
    page = (
        '<h2>Locks</h2><div class="note"><h3 class="title">Note</h3><p>One is enough.</p></div><p>They end.</p>'
        '<div class="warning" id="w"><h3>Warning</h3></div><p>Early.</p><div class="release-note"><h3>Fees</h3>Two.</div>'
    )
    found = read(page, MediaType.HTML)
    assert found.text == "## Locks\n\nNote\nOne is enough.\n\nThey end.\n\nWarning\n\nEarly.\n\n### Fees\n\nTwo."
    paths = {block.heading_path for block in found.outline.blocks}
    assert paths == {("Locks",), ("Locks", "Fees")}


def test_the_sign_that_links_a_term_to_itself_is_left_out():
    page = '<dl><dt>wait <a href="#wait">#</a></dt><dd>Ten. <a href="#more">#1</a> <a href="/channel">#</a></dd></dl>'
    assert read(page, MediaType.HTML).text == "wait\nTen. #1 #"


def test_a_page_says_its_own_charset():
    page = '<meta charset="windows-1252"><p>Fähre</p>'
    assert read(page.encode("cp1252"), MediaType.HTML).text == "Fähre"
    assert read("<p>Fähre</p>".encode("latin-1"), MediaType.HTML, "iso-8859-1").text == "Fähre"


def test_slides_are_pages_under_their_titles():
    found = read(
        building.slides(("Mooring", "14 crowns", "Water included"), ("Storms", "Close the gate")), MediaType.PPTX
    )
    assert found.text == "# Mooring\n\n- 14 crowns\n- Water included\n\n# Storms\n\nClose the gate"
    assert found.pages == (0, found.text.index("# Storms"))
    assert_whole(found)
    assert blocks(found)[1] == ("list", ("Mooring",), ["- 14 crowns", "- Water included"])


def test_a_slide_keeps_its_table_and_its_notes():
    found = read(building.slide_with_table("Wind", [["wind", "flag"], ["8", "red"]], "Ask the keeper."), MediaType.PPTX)
    assert found.text == "# Wind\n\n| wind | flag |\n| --- | --- |\n| 8 | red |\n\nNotes: Ask the keeper."


def test_rows_of_a_csv_name_their_columns():
    found = read('name;price;note\nmooring;14;"a; b"\nwater;;free\n', MediaType.CSV)
    assert found.text == "name: mooring; price: 14; note: a; b\nname: water; note: free"
    assert blocks(found) == [
        ("table", (), ["name: mooring; price: 14; note: a; b", "name: water; note: free"]),
    ]
    assert_whole(found)


def test_a_csv_without_names_keeps_its_rows():
    assert read("mooring\t14\nwater\t2\n", MediaType.TSV).text == "mooring; 14\nwater; 2"


def test_a_long_table_repeats_its_header_in_each_row_and_cuts_none():
    rows = "".join(f"<tr><td>boat {n}</td><td>{'deck ' * 400}</td></tr>" for n in range(20))
    found = read(f"<table><tr><th>Name</th><th>Parts</th></tr>{rows}</table>", MediaType.HTML)
    (block,) = found.outline.blocks
    assert len(block.units) == 20
    assert all(found.text[start:end].startswith("Name: boat ") for start, end in block.units)


def test_json_keeps_paths_values_and_records():
    value = {
        "harbour": {
            "name": "East",
            "fee": 14.50,
            "open": True,
            "boats": [{"id": 10000000000000000000001, "deck": {"m": 12}}, {"id": 2}],
        },
        "tags": ["quay", "ferry"],
    }
    found = read(json.dumps(value), MediaType.JSON)
    assert found.text == (
        "tags: quay, ferry\n\n# harbour\n\nname: East\nfee: 14.5\nopen: true\n\n## boats\n\n"
        "id: 10000000000000000000001; deck.m: 12\nid: 2"
    )
    assert_whole(found)
    assert blocks(found)[-1] == ("table", ("harbour", "boats"), ["id: 10000000000000000000001; deck.m: 12", "id: 2"])


def test_lines_of_json_are_rows():
    found = read('{"id": 1, "at": {"x": 2}}\n\n{"id": 2}\n', MediaType.JSON_LINES)
    assert found.text == "id: 1; at.x: 2\nid: 2"


def test_a_text_may_not_grow_over_its_limit():
    with pytest.raises(Unreadable) as refused:
        read("a\n" * 1000, MediaType.CSV, most_characters=500)
    assert not missing(refused.value.problem, "500 characters")


def test_a_layout_is_stored_and_comes_back_the_same():
    for found in (read(PAGE, MediaType.HTML), read(building.pdf("One.", "Two."), MediaType.PDF)):
        kept = layout.unpacked(layout.packed(found))
        assert (kept.outline, kept.pages, kept.notice) == (found.outline, found.pages, found.notice)
