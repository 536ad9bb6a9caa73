"""What stands around the words of a page: navigation, banners, menus, lists of links."""

import re
from enum import IntEnum

from selectolax.lexbor import LexborNode


class Strictness(IntEnum):
    """How much is left out, the most first."""

    FULL = 0
    # What its tag, role or name calls navigation; lists of links are read.
    NAMES = 1
    # Only what its tag or role calls navigation.
    TAGS = 2
    # Only what is never read: scripts, styles, what is hidden.
    NONE = 3


_UNREAD = frozenset(
    {
        "audio", "base", "button", "canvas", "datalist", "dialog", "embed", "head", "iframe", "input", "link",
        "map", "math-menu", "meta", "noscript", "object", "option", "param", "picture-source", "script", "select",
        "source", "style", "svg", "template", "textarea", "title", "track", "video", "-comment", "_comment",
    }
)  # fmt: skip
_SURROUNDING = frozenset(("nav", "footer", "aside", "search"))
_ROLES = frozenset(
    ["navigation", "banner", "contentinfo", "search", "menu", "menubar", "toolbar", "complementary", "alertdialog"]
)
# Elements that hold the page's own words, whatever they are called.
_NEVER = frozenset(
    {
        "html", "body", "main", "article", "h1", "h2", "h3", "h4", "h5", "h6", "p", "li", "td", "th", "tr",
        "tbody", "pre", "code", "span", "em", "strong", "a",
    }
)  # fmt: skip
_NAME = (
    r"(?:nav|navbar|navheader|navfooter|navigation|menus?|breadcrumbs?|sidebar|side-bar|cookies?|consent|gdpr|footer|"
    r"masthead|social|share|sharing|related|promo|advert|advertisement|ads|newsletter|subscribe|pagination|pager|"
    r"skip-?links?|toolbar|popup|modal)"
)
_CLASSES = re.compile(rf"(?:^|[-_\s]){_NAME}(?:$|[-_\s])", re.IGNORECASE)
# An id is often a section's anchor, made of its title: only one that says nothing else counts.
_IDS = re.compile(
    rf"(?:site|page|main|top|bottom|left|right)?[-_]?{_NAME}[-_]?(?:bar|banner|box|container|wrapper)?", re.IGNORECASE
)
_ASIDES_READ = re.compile(r"note|tip|warning|caution|important|admonition|footnote|callout", re.IGNORECASE)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_BOXES = frozenset(
    ["note", "tip", "hint", "warning", "caution", "important", "danger", "attention", "admonition", "callout"]
)
_BOX_DEPTH = 2
_SIGNS = frozenset("#¶§🔗")
_FARMS = frozenset(("ul", "ol", "table"))
_LEAST_FARM_LINKS = 5
_FARM_SHARE = 0.8
_LONGEST_FARM_LINK = 60


def is_left_out(node: LexborNode, tag: str, strictness: Strictness) -> bool:
    """Whether nothing inside the node is read."""
    if tag in _UNREAD:
        return True
    attributes = node.attributes
    hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true"
    if hidden or _HIDDEN.search(attributes.get("style") or ""):
        return True
    if strictness is Strictness.NONE or tag in _NEVER:
        return False
    if (attributes.get("role") or "") in _ROLES or tag in _SURROUNDING:
        return not (tag == "aside" and _ASIDES_READ.search(_named(attributes)))
    if tag == "header":
        return node.css_first("h1") is None and node.css_first("nav, a") is not None and not _in_article(node)
    if strictness is Strictness.TAGS:
        return False
    if _CLASSES.search(attributes.get("class") or "") or _IDS.fullmatch(attributes.get("id") or ""):
        return node.css_first("main, article, h1") is None
    return strictness is Strictness.FULL and tag in _FARMS and not _in_article(node) and _is_farm(node)


def is_self_link(node: LexborNode, tag: str) -> bool:
    """Whether the node is the sign beside a heading or a term that links to its own place."""
    return tag == "a" and (node.attributes.get("href") or "").startswith("#") and node.text().strip() in _SIGNS


def is_box_title(node: LexborNode) -> bool:
    """Whether a heading names a box, a note or a warning, in the midst of a section that goes on below the box."""
    parent = node.parent
    for _ in range(_BOX_DEPTH):
        if parent is None or parent.tag in ("body", "main", "article"):
            return False
        if parent.attributes.get("role") == "note" or not _BOXES.isdisjoint(_named(parent.attributes).lower().split()):
            return True
        parent = parent.parent
    return False


def _named(attributes: dict[str, str | None]) -> str:
    return f"{attributes.get('class') or ''} {attributes.get('id') or ''}"


def _in_article(node: LexborNode) -> bool:
    parent = node.parent
    # The page's own words are never deep below their article; a page that nests for ever is not followed.
    for _ in range(50):
        if parent is None:
            return False
        if parent.tag in ("main", "article"):
            return True
        parent = parent.parent
    return False


def _is_farm(node: LexborNode) -> bool:
    """Whether the node is hardly more than short links."""
    links = node.css("a[href]")
    if len(links) < _LEAST_FARM_LINKS:
        return False
    linked = sum(len(link.text().strip()) for link in links)
    whole = len("".join(node.text().split()))
    return linked >= _FARM_SHARE * whole and linked <= _LONGEST_FARM_LINK * len(links)
