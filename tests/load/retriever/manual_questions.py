"""Thirty questions about a reference manual and about twenty reports, each with the fact that answers it.

Questions are in words of our own.  A fact is a pattern that short that it quotes nothing: a passage answers when it is of
the named document and the fact stands inside it.  They were written before any search had been seen, from the documents
alone; none was dropped for what a search found.  Searches showed that two have their answer on another page as well.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Where(StrEnum):
    """What the fact stands in."""

    TABLE = "table"
    CODE = "code"
    PROSE = "prose"
    # Two columns of labels, each with its value beside it.
    FORM = "form"


@dataclass(frozen=True, slots=True)
class Posed:
    """A question, the document that answers it, and the fact as a regular expression over one line."""

    question: str
    document: str
    fact: str
    where: Where
    # Other documents that say the same.
    also: tuple[str, ...] = ()

    def answered_by(self, document: str, text: str) -> bool:
        """Whether the fact stands in ``text``, which is of ``document``."""
        return document in (self.document, *self.also) and self.stands_in(text)

    def stands_in(self, text: str) -> bool:
        """Whether the fact stands in ``text``, wherever its lines break."""
        return re.search(self.fact, " ".join(text.split())) is not None


_TABLES = (
    ("Which SQLSTATE code is reported when a deadlock was detected?", "errcodes-appendix", r"40P01"),
    ("How many columns can one table have at most?", "limits", r"\b1,?600\b"),
    ("How long may a password be when crypt hashes it with Blowfish?", "pgcrypto", r"\bbf\W+72\b"),
    (
        "Which letter stands for the MAINTAIN privilege in an access list?",
        "ddl-priv",
        r"MAINTAIN\W+(Abbreviation: )?m\b",
    ),
    ("How many bytes can a character take in the EUC_TW encoding?", "multibyte", r"EUC_TW\W.{1,130}1\W4\b"),
    ("By which byte is a CopyBothResponse message recognised?", "protocol-message-formats", r"Byte1\('W'\)"),
)
_CODE = (
    (
        "What do I set with sysctl so that Linux stops overcommitting memory?",
        "kernel-resources",
        r"overcommit_memory=2",
    ),
    (
        "How does a PL/pgSQL function prefer the column where a variable has the same name?",
        "plpgsql-implementation",
        r"#variable_conflict use_column",
    ),
    (
        "How do I restore a custom-format dump so that the dropped database is created again?",
        "app-pgrestore",
        r"pg_restore -C -d",
    ),
    ("How do I query for the ten rows nearest to a number with btree_gist?", "btree-gist", r"<-> 42\b"),
    ("How can a SELECT read a sample of exactly a hundred rows?", "tsm-system-rows", r"SYSTEM_ROWS\(100\)"),
)
_PROSE = (
    ("How many bytes may the payload of a notification have?", "sql-notify", r"\b8000 bytes\b"),
    (
        "Which file do I create in the data directory to start recovery from the archive?",
        "continuous-archiving",
        r"\brecovery\.signal\b",
    ),
    ("From which trigram similarity on do two strings match by default?", "pgtrgm", r"\b0\.3\b"),
    ("How wide must a row be before its values are compressed or moved out of line?", "storage-toast", r"\b2\s?kB\b"),
    ("How large are the segments of the write-ahead log if initdb is not told a size?", "app-initdb", r"16 megabytes"),
    (
        "How many transactions before wraparound does the server refuse to assign new ones?",
        "routine-vacuuming",
        r"three million",
    ),
    ("What does psql return to the shell when ON_ERROR_STOP ended a script?", "app-psql", r"\b3 if an error\b"),
    (
        "In which state is a backend whose transaction had an error and which waits for its client?",
        "monitoring-stats",
        r"idle in transaction \(aborted\)",
    ),
    ("How often does autoprewarm write down which blocks are in memory?", "pgprewarm", r"\b300 seconds\b"),
)
_REPORTS = (
    (
        "How old was the pilot who hit trees and wires short of his own strip near Tallahassee?",
        "20071229X02007",
        r"\b[Aa]ge:?\W+85\b",
        Where.PROSE,
    ),
    (
        "What was the total time of the airframe of the Piper that landed gear up at Muscle Shoals?",
        "20080123X00097",
        r"\b2823\.4\b",
        Where.FORM,
    ),
    (
        "How long was the runway in Wausau beside which a Skyhawk nosed over in the snow?",
        "20080104X00020",
        r"\b3078\b",
        Where.PROSE,
    ),
    (
        "Who was in charge of investigating the RV-8 accident at Latrobe?",
        "20080109X00035",
        r"Todd G Gunther",
        Where.FORM,
    ),
    ("What was the altimeter setting at the accident in Murfreesboro?", "20080122X00080", r"\b30\.24\b", Where.FORM),
    (
        "Which model of engine had the Beech that porpoised on landing in Death Valley?",
        "20071231X02009",
        r"IO-340-A",
        Where.FORM,
    ),
    (
        "How long was the crack in the wing spar of the Aerostar that flew on after hitting a tree?",
        "20080115X00053",
        r"\b3-inch\b",
        Where.PROSE,
    ),
    (
        "What did a student's wing hit at Fullerton while he taxied and watched a helicopter?",
        "20080117X00072",
        r"utility trailer",
        Where.PROSE,
    ),
    (
        "At which telephone number is the Mexican authority that investigates the Cessna 210 near Arteaga?",
        "20080108X00029",
        r"525-55-762-9538",
        Where.PROSE,
    ),
    (
        "How many hours had the pilot flown who crashed while seeding at Soledad?",
        "20080116X00055",
        r"\b11000 hours\b",
        Where.FORM,
    ),
)
_ALSO = {
    "errcodes-appendix": ("mvcc-serialization-failure-handling.html",),
    "limits": ("ddl-basics.html",),
}

MANUAL = tuple(
    Posed(question, f"{page}.html", fact, where, _ALSO.get(page, ()))
    for where, some in ((Where.TABLE, _TABLES), (Where.CODE, _CODE), (Where.PROSE, _PROSE))
    for question, page, fact in some
)
REPORTS = tuple(Posed(question, f"{report}.pdf", fact, where) for question, report, fact, where in _REPORTS)
QUESTIONS = (*MANUAL, *REPORTS)
