"""Which questions are of a whole collection, and which of how many documents there are, or which.

Rules over the question's own words, and no model: what they take for more than a question of passages has to name the
collection or its documents.  `python -m tests.load.ask_paths` measures them.  Invariant: what no rule knows is a question of
passages, which any of them can be answered as.
"""

import re
from dataclasses import dataclass

from gateway.asking.question import Path

_NOUN = (
    r"(?:documents?|docs|files|pages|reports|articles|papers|records|texts|entries|manuals|notes|emails|tickets|contracts"
    r"|policies|abstracts|studies)"
)
_WHOLE = r"(?:collection|corpus|knowledge base|library|archive|document set|data ?set|documentation)"
_ALL = r"(?:(?:all|the whole|the entire|every one) (?:of )?(?:the |these |our |my |your )?)"
_THESE = r"(?:the|these|those|this|our|my|your)"
_EVERYTHING = (
    rf"(?:{_ALL}(?:{_NOUN}|{_WHOLE})|(?:{_THESE}) (?:{_WHOLE}|documents|files|docs)"
    r"|everything(?: (?:here|in here|you have|there is|we have))?|it all|them all)"
)
_GIVE = (
    r"(?:summari[sz]e|sum up|(?:give|write|make|provide|create|produce|show)(?: me| us)? (?:a |an |the )?(?:\w+ ){0,2}"
    r"(?:summary|overview|synopsis|digest)(?: of| over| about| across)?|(?:a |an )?(?:\w+ )?(?:summary|overview|synopsis) (?:of|over|across)"
    r"|outline)"
)
_SUMMARY = [
    re.compile(rf"^(?:please |can you |could you |would you )*{_GIVE} (?:of )?{_EVERYTHING}(?P<focus>.*)$"),
    re.compile(
        rf"^what (?:are|were|is) the (?:main|key|major|central|overall|common|recurring|most important|biggest)"
        rf" (?:themes?|topics?|points?|subjects?|findings?|takeaways?|messages?|ideas?|issues)"
        rf" (?:of|in|across|throughout|from|covered (?:in|by)|discussed in) (?:{_EVERYTHING})(?P<focus>)$"
    ),
    re.compile(rf"^what (?:do|does|did) (?:{_EVERYTHING}) (?:say|cover|contain|talk|tell|deal)(?P<focus>.*)$"),
    re.compile(rf"^what (?:is|are) (?:{_EVERYTHING})(?: all)? about(?P<focus>)$"),
]
_HOLD = (
    r"(?:mention(?:s|ed|ing)?|contain(?:s|ed|ing)?|discuss(?:es|ed|ing)?|describ(?:e|es|ed|ing)|talk(?:s|ed|ing)? about|refer(?:s|red|ring)? to"
    r"|cover(?:s|ed|ing)?|cit(?:e|es|ed|ing)|nam(?:e|es|ed|ing)|say(?:s|ing)?|include(?:s|d)?|including|with the words?|(?:that )?(?:are |is )?about)"
)
_INDEX = [
    re.compile(
        rf"^(?:in )?how many (?:of (?:the|these|our|my) )?{_NOUN} (?:are there |that |which |do )*{_HOLD} (?P<words>.+)$"
    ),
    re.compile(
        rf"^(?:in )?how many (?:of (?:the|these|our|my) )?{_NOUN} (?:is|are|was|were) (?P<words>.+) (?:mentioned|discussed|described|named|cited|covered)(?: in)?$"
    ),
    re.compile(
        rf"^(?:in )?(?:which|what) (?:of (?:the|these|our|my) )?(?:documents?|docs|files|pages|reports|articles|papers|texts|manuals) (?:that |do )?{_HOLD} (?P<words>.+)$"
    ),
    re.compile(
        rf"^(?:please )?(?:list|count|show|find|name|enumerate)(?: me| us)? (?:all |every |the |all the |all of the )?(?:number of )?{_NOUN} (?:that |which )?{_HOLD} (?P<words>.+)$"
    ),
    re.compile(
        rf"^how many {_NOUN} (?:are there|are in|does|do|is in|have you|do you have|do we have)\b(?P<words>)(?: (?:in|of|altogether|in total|have|hold|contain|here|{_THESE}|{_WHOLE}|collection|it|you|we|there))*$"
    ),
    re.compile(
        rf"^(?:list|count|enumerate)(?: me)? (?:all |all the |all of the |every )?(?:documents|docs|files)(?P<words>)(?: in (?:the|this) {_WHOLE})?$"
    ),
    re.compile(
        rf"^(?:what is|tell me|give me) the number of (?:documents|docs|files)(?P<words>)(?: in (?:the|this) {_WHOLE})?$"
    ),
]
_FOCUS = re.compile(r"^(?:say|says)?\s*(?:(?:of|about|on|regarding|concerning|with regard to|as to)\b)?\s*(?P<of>.*)$")
_QUOTES = "\"'“”„«»‘’"
_TAIL = re.compile(r"^(?:the )?(?:words?|terms?|phrase) | (?:in|of) (?:the|this|our|my) (?:collection|corpus|library)$")


@dataclass(frozen=True, slots=True)
class Recognised:
    """Where a question's answer is, and of what: the summary's focus, or the index's keywords; empty for all there is."""

    path: Path
    of: str = ""


def recognise(question: str) -> Recognised:
    """Where the answer to a question is."""
    plain = " ".join(question.casefold().split()).strip(" ?.!")
    for rule in _SUMMARY:
        if found := rule.match(plain):
            focus = _FOCUS.match(found.group("focus").strip(" ,:"))
            return Recognised(Path.SUMMARY, focus.group("of").strip(" ,:") if focus else "")
    for rule in _INDEX:
        if found := rule.match(plain):
            return Recognised(Path.INDEX, _keywords(found.group("words")))
    return Recognised(Path.PASSAGES)


def _keywords(words: str) -> str:
    return _TAIL.sub("", words.strip(" ,:" + _QUOTES)).strip(" ,:" + _QUOTES)
