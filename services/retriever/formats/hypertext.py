"""HTML to text: what the page says, without what surrounds it on every page.

Navigation, menus, banners and lists of links are left out by tag, role and name; when hardly anything would remain,
less is left out, for a page that is all links was meant to be read too.  Invariant: nodes are walked without
recursion, so depth costs no stack of ours.
"""

import re
from collections.abc import Iterator

from selectolax.lexbor import LexborHTMLParser, LexborNode

from services.retriever.formats import charsets
from services.retriever.formats.hypertext_tables import is_data, rows_of
from services.retriever.formats.surroundings import Strictness, is_box_title, is_left_out, is_self_link
from services.retriever.formats.unreadable import Unreadable
from services.retriever.formats.writer import Converted, Writer, on_one_line

_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_META_BYTES = 4096
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl",
        "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li", "main",
        "nav", "ol", "p", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
    }
)  # fmt: skip
# What a term or a title introduces does not stand below these.
_ENDS = frozenset(("aside", "blockquote", "div", "dl", "section"))
_LISTS = frozenset(("ul", "ol", "menu"))
_BLANKS = re.compile(r"[ \t\n\r\f\xa0]+")
# The sign at the end of a heading that links to itself.
_SELF_LINK = re.compile(r"\s+[#¶§🔗]\s*$")
# With less, a page that hides its words behind its navigation would seem empty.
_FEW_CHARACTERS = 60
_LEAST_SHARE = 0.1


def converted(content: bytes, charset: str, most_characters: int) -> Converted:
    """The page as text.  Raises Unreadable."""
    declared = _META_CHARSET.search(content[:_META_BYTES])
    text = charsets.decoded(content, charset or (declared.group(1).decode() if declared else ""))
    charsets.require_readable(text)
    tree = LexborHTMLParser(text)
    body = tree.body or tree.root
    if body is None:
        raise Unreadable("it holds no page", "Send the page's own HTML.")
    title = tree.css_first("head > title")
    for strictness in Strictness:
        walk = _Walk(Writer(most_characters), strictness)
        root = _main(tree, body) if strictness is Strictness.FULL else body
        walk.run(root)
        walk.left_out += 0 if root is body else len(_BLANKS.sub(" ", body.text())) - len(_BLANKS.sub(" ", root.text()))
        kept = walk.writer.length
        if kept >= _FEW_CHARACTERS or kept >= _LEAST_SHARE * (kept + walk.left_out):
            break
    found = walk.writer.finish()
    if found.outline.title or title is None:
        return found
    outline = type(found.outline)(on_one_line(title.text()), found.outline.blocks)
    return Converted(found.text, outline, found.pages, found.notice)


def _main(tree: LexborHTMLParser, body: LexborNode) -> LexborNode:
    """The part that says of itself that it is what the page is about."""
    for selector in ("main", "[role=main]", "article"):
        found = tree.css(selector)
        if len(found) == 1:
            return found[0]
    return body


class _Walk:
    """One pass over a page."""

    def __init__(self, writer: Writer, strictness: Strictness) -> None:
        self.writer = writer
        self.left_out = 0
        self._strictness = strictness
        self._words: list[str] = []
        # The next number of each list that is open around the current node, 0 for one without numbers, and whether an
        # item has begun and not been written.
        self._lists: list[int] = []
        self._item = False
        # A term of a list of definitions, or a box's title, until what it introduces is written.
        self._lead = ""

    def run(self, root: LexborNode) -> None:
        """Everything under a node."""
        stack = [(root, _children(root))]
        while stack:
            node, children = stack[-1]
            child = next(children, None)
            if child is None:
                self._leave(node.tag or "")
                stack.pop()
            elif self._enter(child):
                stack.append((child, _children(child)))
        self._break()

    def _enter(self, node: LexborNode) -> bool:
        """Take the node; whether what is inside it is still to be walked."""
        tag = node.tag or ""
        if tag == "-text":
            self._words.append(_BLANKS.sub(" ", node.text_content or ""))
            return False
        if is_self_link(node, tag):
            return False
        if is_left_out(node, tag, self._strictness):
            self.left_out += len(_BLANKS.sub(" ", node.text()))
            return False
        if tag in _HEADINGS:
            self._heading(node, _HEADINGS[tag])
        elif tag == "pre":
            self._break()
            self.writer.code(node.text(separator=""))
        elif tag == "table" and is_data(node):
            self._break()
            rows, header = rows_of(node)
            self.writer.table(rows, header=header)
        elif tag == "br":
            self._words.append("\n")
        elif tag == "img":
            self._picture(node)
        else:
            self._open(tag)
            return True
        return False

    def _heading(self, node: LexborNode, level: int) -> None:
        """A heading, which what follows stands under; that of a box stands over the box alone."""
        self._break()
        words = _SELF_LINK.sub("", node.text(separator=""))
        if is_box_title(node):
            self._lead = words
        else:
            self.writer.heading(level, words)

    def _open(self, tag: str) -> None:
        if tag == "dt":
            self._break()
        elif tag in _BLOCKS:
            self._flush()
        if tag in _LISTS:
            self._lists.append(1 if tag == "ol" else 0)
        elif tag == "li":
            self._item = True

    def _leave(self, tag: str) -> None:
        if tag == "dt":
            self._lead, self._words = "".join(self._words).strip(), []
        elif tag in _ENDS:
            self._break()
        elif tag in _BLOCKS or tag in _LISTS:
            self._flush()
        if tag in _LISTS:
            self._lists.pop()
        elif tag == "li":
            self._item = False

    def _picture(self, node: LexborNode) -> None:
        """A picture's description, where it is a sentence and no file name."""
        words = on_one_line(node.attributes.get("alt") or "")
        if words.count(" ") >= 2:
            self._words.append(f" {words} ")

    def _break(self) -> None:
        """Write what is pending, also a term that nothing followed."""
        self._flush()
        lead, self._lead = self._lead, ""
        if lead:
            self.writer.paragraph(lead)

    def _flush(self) -> None:
        text, self._words = "".join(self._words), []
        if not text.strip():
            return
        if self._lead:
            # With what it introduces, so that no chunk ends between the two.
            text, self._lead = f"{self._lead}\n{text.lstrip()}", ""
        if self._item:
            number = self._lists[-1] if self._lists else 0
            self.writer.item(text, len(self._lists) - 1, number)
            if number:
                self._lists[-1] += 1
            self._item = False
        else:
            self.writer.paragraph(text)


def _children(node: LexborNode) -> Iterator[LexborNode]:
    return node.iter(include_text=True)
