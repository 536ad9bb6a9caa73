"""What the passages of a document say together.

A question's words may stand in one passage and its answer in the next: a passage counts for more where others of its
document were found as well.  Invariant: a document of one passage is moved by nothing.
"""

import math
from collections.abc import Mapping


def together(scores: Mapping[int, float], documents: Mapping[int, int]) -> dict[int, float]:
    """By chunk of ``documents`` its document's score, the greatest 1: the root of the squares of its chunks', summed.

    Squares keep many weak passages of a long document below one that fits.
    """
    squares: dict[int, list[float]] = {}
    for chunk, score in scores.items():
        if chunk in documents:
            squares.setdefault(documents[chunk], []).append(score * score)
    whole = {document: math.sqrt(math.fsum(each)) for document, each in squares.items()}
    greatest = max(whole.values(), default=0.0)
    if greatest <= 0:
        return {}
    return {chunk: whole[document] / greatest for chunk, document in documents.items() if whole.get(document)}
