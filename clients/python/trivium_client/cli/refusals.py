"""What is wrong with a dataset that was refused, as a table: line, field, what to do."""

from dataclasses import dataclass

from trivium_client.cli.printing import table
from trivium_client.errors import TriviumError

# More than a screen of them nobody mends at once.
MOST_ROWS = 20
# Where a problem is that is of no row.
_WHOLE = "file"


@dataclass(frozen=True, slots=True)
class _Refused:
    line: str
    field: str
    problem: str


def said_of_rows(error: TriviumError) -> str:
    """What a DATASET_MALFORMED says above the table of its rows, which names them all; without one its own sentence."""
    count = error.variables.get("count", "")
    if not error.violations or error.violations[0].field == _WHOLE or not count:
        return error.message
    return f"this cannot be trained on; bad rows: {count}. It was not kept as a dataset."


def rows_refused(error: TriviumError) -> list[str]:
    """Lines of a table of the rows that a DATASET_MALFORMED names, and how many there are besides.

    None of what is wrong with a file as a whole: its sentence says that.
    """
    if error.violations and error.violations[0].field == _WHOLE:
        return []
    found = []
    for violation in error.violations:
        place, _, field = violation.field.partition(", ")
        found.append(_Refused(place.removeprefix("line "), field, violation.description))
    if not found:
        return []
    shown = found[:MOST_ROWS]
    count = error.variables.get("count", "")
    more = (int(count) if count.isdecimal() else len(found)) - len(shown)
    lines = table(shown, ("line", "field", "problem"), None)
    digest = error.variables.get("sha256", "")
    report = f"listed for a day: trivium data problems sha256:{digest}" if digest else "mend these first"
    return [*lines, f"and {more} more; {report}"] if more > 0 else lines
