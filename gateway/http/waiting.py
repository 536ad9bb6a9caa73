"""For how long a client says that it waits for its answer: nothing is begun that would come too late, and nothing outlives it.

Envoy says it of each request that it passes on; OpenAI's clients say what their own timeout is, with each request.  That is
a read's: of the whole answer where this comes in one piece, of a single pause where it comes in events, so a stream is not
held to it.  What is no number over zero says nothing: no client of these fails for a header that it does not know of.
"""

import math
from collections.abc import Mapping

# By a proxy, in milliseconds: until the answer's end.
EXPECTED_MS = "x-envoy-expected-rq-timeout-ms"
# By OpenAI's clients for Python and for Node, in seconds: until they read the next byte.
_READ_SECONDS = ("x-stainless-read-timeout", "x-stainless-timeout")


def waits_seconds(headers: Mapping[str, str], *, stream: bool) -> float | None:
    """The least that was said, None where nothing was; ``headers`` by their names in lower case."""
    said = [_number(headers.get(EXPECTED_MS)) / 1000]
    if not stream:
        said += [_number(headers.get(name)) for name in _READ_SECONDS]
    least = min(said)
    return None if least == math.inf else least


def _number(text: str | None) -> float:
    """Over zero; without end where the text is none such."""
    try:
        number = float(text or "")
    except ValueError:
        return math.inf
    return number if number > 0 else math.inf
