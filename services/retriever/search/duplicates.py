"""One hit for passages that say the same.

Invariant: the best of a group stands for it, every other one is named by it, and none is
lost or in two groups.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

_SHINGLE_WORDS = 3
# Scripts that put no spaces between words count by character.
_WORD = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|[^\\W_]+")


def grouped(order: Sequence[int], texts: Mapping[int, str], similarity: float) -> list[list[int]]:
    """Chunks that count as one, the best first in each group, groups by their best.

    The same text, blanks aside, is always one; below ``similarity`` 1 also texts whose
    three-word sequences have at least that Jaccard index with the group's best.
    """
    groups: list[list[int]] = []
    by_text: dict[str, int] = {}
    sizes: list[int] = []
    holders: dict[tuple[str, ...], list[int]] = {}
    for chunk in order:
        text = " ".join(texts[chunk].split())
        group = by_text.get(text)
        shingles: set[tuple[str, ...]] = set()
        if group is None and similarity < 1:
            shingles = _shingles(text)
            group = _nearest(shingles, holders, sizes, similarity)
        if group is not None:
            groups[group].append(chunk)
        else:
            group = len(groups)
            groups.append([chunk])
            sizes.append(len(shingles))
            for shingle in shingles:
                holders.setdefault(shingle, []).append(group)
        by_text.setdefault(text, group)
    return groups


def _nearest(
    shingles: set[tuple[str, ...]],
    holders: Mapping[tuple[str, ...], Sequence[int]],
    sizes: Sequence[int],
    similarity: float,
) -> int | None:
    """The best group whose first passage is similar enough."""
    shared = Counter(group for shingle in shingles for group in holders.get(shingle, ()))
    near = [group for group, count in shared.items() if count >= similarity * (len(shingles) + sizes[group] - count)]
    return min(near, default=None)


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    last = max(1, len(words) - _SHINGLE_WORDS + 1)
    return {tuple(words[at : at + _SHINGLE_WORDS]) for at in range(last)}
