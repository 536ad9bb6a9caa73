"""Shows rows as they are trained on, token by token.

Invariant: what is shown comes from the code that training uses; the texts of a row's tokens, joined, are the row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from services.trainer.data.encoding import Encoded, Fitted, Preparation, encode, sides
from services.trainer.data.examples import Example, Judged, Unrenderable
from services.trainer.data.rows import AnyRow, Problem

# One answer carries no more, whatever the rows; the next one goes on.
_MAX_TOKENS = 32_768

Shown = tuple[tuple[str, bool], ...]


@dataclass(frozen=True, slots=True)
class PreviewRow:
    """One example: tokens with whether the loss is taken on each.

    `rejected` is the other side of a pair, of which `tokens` is the chosen one; `note` says why a row is not trained
    on, and then what would be shown uncut is.
    """

    line: int
    tokens: Shown
    rejected: Shown = ()
    desirable: bool | None = None
    note: str = ""


def preview(
    read: Iterable[AnyRow | Problem], preparation: Preparation, tokenizer: Any, offset: int, rows: int
) -> tuple[list[PreviewRow], int]:
    """Return the examples of at most `rows` of the rows read from `offset` (from 0) on, and the offset of the next row.

    A row counts as one however many examples it becomes.  The offset is 0 when none follows.
    """
    found: list[PreviewRow] = []
    shown_tokens = 0
    for count, row in enumerate(islice(read, offset, None)):
        if count == rows:
            return found, offset + count
        for place, example in enumerate(_examples(row, preparation, tokenizer)):
            shown_tokens += len(example.tokens) + len(example.rejected)
            if found and shown_tokens > _MAX_TOKENS:
                # A row is shown from its beginning or not at all; of a long text its first pieces are enough.
                return found, offset + count + bool(place)
            found.append(example)
    return found, 0


def _examples(row: AnyRow | Problem, preparation: Preparation, tokenizer: Any) -> Iterator[PreviewRow]:
    if isinstance(row, Problem):
        yield PreviewRow(row.line, (), note=row.message)
        return
    try:
        fitted: Fitted = preparation.of(row)
        for example in fitted.examples:
            yield _shown(row.line, example, tokenizer)
        if fitted.left_out is not None:
            whole = encode(row, preparation.encoder, preparation.supervision)
            yield PreviewRow(row.line, pieces(tokenizer, sides(whole)[0], _MAX_TOKENS), note=fitted.left_out.value)
    except Unrenderable as error:
        yield PreviewRow(row.line, (), note=str(error))


def _shown(line: int, example: Encoded, tokenizer: Any) -> PreviewRow:
    first, *second = (pieces(tokenizer, side) for side in sides(example))
    desirable = example.desirable if isinstance(example, Judged) else None
    return PreviewRow(line, first, second[0] if second else (), desirable)


def pieces(tokenizer: Any, example: Example, limit: int | None = None) -> Shown:
    """Return each token's text and whether the loss is taken on it.

    A character that several tokens make up stands with the last of them, the others are empty.  What a tokenizer
    drops at a text's beginning (SentencePiece: a space) is kept inside it, by reading each token behind the one before.
    """
    shown: list[tuple[str, bool]] = []
    pending: list[int] = []
    before: list[int] = []
    for token, learned in list(zip(example.tokens, example.learned, strict=True))[:limit]:
        pending.append(token)
        prefix = tokenizer.decode(before, skip_special_tokens=False)
        text = tokenizer.decode(before + pending, skip_special_tokens=False).removeprefix(prefix)
        # At most four bytes make a character; what is none by then is shown as it is.
        if text.endswith("\ufffd") and len(pending) < 4:
            shown.append(("", learned))
            continue
        shown.append((text, learned))
        before, pending = pending, []
    if pending:
        text = tokenizer.decode(pending, skip_special_tokens=False)
        shown[-1] = (text, shown[-1][1])
    return tuple(shown)
