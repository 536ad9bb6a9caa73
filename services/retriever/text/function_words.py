"""Words of a question that say how it is asked and not what about.

Written in capitals or inside a sentence with one, a word may be a name (IT, US, WHO, May), so only what is written
small counts, and what begins the question.  Invariant: a question of nothing else keeps all its words.
"""

_ENGLISH = frozenset(
    " ".join(
        [
            "a an the this that these those",
            "i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers herself",
            "it its itself they them their theirs themselves",
            "what which who whom whose when where why how",
            "am is are was were be been being do does did doing have has had having",
            "can could will would shall should may might must",
            "of at by for with about against between into through during before after above below to from up down in out on off over",
            "under upon within without",
            "and but or nor if because as until while than so though although whether",
            "not no there here then such some any also just very too please",
        ]
    ).split()
)


def is_function_word(word: str, *, first: bool) -> bool:
    """Whether a word as it was written, ``first`` of its question or not, only holds the sentence together."""
    if word == "I":
        return True
    small = word.lower()
    return small in _ENGLISH and (word == small or (first and word == small.capitalize()))
