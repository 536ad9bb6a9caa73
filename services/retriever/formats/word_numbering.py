"""The numbers of a Word document's lists, which its file counts nowhere."""

from dataclasses import dataclass, field
from typing import Any

from docx.oxml.ns import qn

_BULLETS = ("bullet", "none", "")


@dataclass(slots=True)
class Numbering:
    """Counts items as they come.  ``formats`` holds the number format of each list and depth."""

    formats: dict[tuple[str, int], str]
    _counts: dict[tuple[str, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, document: Any) -> "Numbering":
        """What the document's numbering part declares; nothing where there is none."""
        found: dict[tuple[str, int], str] = {}
        relations = document.part.rels.values()
        part = next((it for it in relations if not it.is_external and it.reltype.endswith("/numbering")), None)
        if part is None:
            return cls(found)
        root = part.target_part.element
        kinds = {it.get(qn("w:abstractNumId")): it for it in root.iter(qn("w:abstractNum"))}
        for listed in root.iter(qn("w:num")):
            kind = kinds.get(value_of(listed.find(qn("w:abstractNumId"))))
            for level in () if kind is None else kind.iter(qn("w:lvl")):
                depth = level.get(qn("w:ilvl")) or ""
                if depth.isdigit() and len(depth) == 1:
                    key = listed.get(qn("w:numId")) or "", int(depth)
                    found[key] = value_of(level.find(qn("w:numFmt")))
        return cls(found)

    def next(self, listed: str, depth: int) -> int:
        """The number of the list's next item at this depth; 0 for a bullet."""
        if self.formats.get((listed, depth), "") in _BULLETS:
            return 0
        for key in [it for it in self._counts if it[0] == listed and it[1] > depth]:
            del self._counts[key]
        self._counts[listed, depth] = self._counts.get((listed, depth), 0) + 1
        return self._counts[listed, depth]


def value_of(element: Any) -> str:
    """The ``w:val`` of an element; empty if there is neither."""
    return "" if element is None else element.get(qn("w:val")) or ""
