"""Tables of HTML pages: those that hold data, as rows; those that only place things are walked like any block."""

from selectolax.lexbor import LexborNode

# What a cell of data does not hold.
_PLACED = "table, h1, h2, h3, h4, h5, h6, form"
_MOST_SPAN = 100
_MOST_REPEATED_CHARACTERS = 100


def is_data(table: LexborNode) -> bool:
    """Whether the table's cells are values."""
    if table.attributes.get("role") == "presentation":
        return False
    return not any(found != table for found in table.css(_PLACED)) and len(table.css("td, th")) > 1


def rows_of(table: LexborNode) -> tuple[list[list[str]], bool]:
    """The cells of each row, and whether the first row names the columns.

    A short cell that reaches over several rows is in each of them.
    """
    rows: list[list[str]] = []
    header = False
    # By column: a text that reaches down, and over how many more rows.
    reaching: dict[int, tuple[str, int]] = {}
    for row in table.css("tr"):
        cells: list[str] = []
        found = row.css("td, th")
        if not rows:
            header = bool(found) and all(cell.tag == "th" for cell in found)
        for cell in found:
            _fill(cells, reaching)
            text = " ".join(cell.text(separator=" " if cell.css_first("p, li, br, div") else "").split())
            down = min(_number(cell.attributes.get("rowspan")), _MOST_SPAN) - 1
            if down > 0 and len(text) <= _MOST_REPEATED_CHARACTERS:
                reaching[len(cells)] = (text, down)
            cells.append(text)
        _fill(cells, reaching)
        rows.append(cells)
    return rows, header


def _fill(cells: list[str], reaching: dict[int, tuple[str, int]]) -> None:
    """Add the texts that reach into this row from above, up to the next cell of its own."""
    while len(cells) in reaching:
        at = len(cells)
        text, more = reaching.pop(at)
        cells.append(text)
        if more > 1:
            reaching[at] = (text, more - 1)


def _number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() and len(value) < 6 else 1
