"""Find the data that a message must contain; tests do not assert the sentence around them."""

import re

# No part of a word, and none of a number with a fraction.
_BEFORE, _AFTER = r"(?<!\w)(?<!\d\.)", r"(?!\w|\.\d)"


def missing(text: str, *data: object) -> list[str]:
    """Return which names, numbers and paths a text does not hold, each as whole words."""
    return [str(datum) for datum in data if not re.search(_BEFORE + re.escape(str(datum)) + _AFTER, text)]
