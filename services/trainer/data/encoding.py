"""From rows to what is trained on: encoded, cut to the length that is allowed, left out where nothing is left.

Invariants: checking, the preview and training see the very same sequences, because all three come from here; and
nothing is cut or left out without being counted and named.  The rules:

- a conversation loses its end, never its question; one of whose answers nothing fits is left out;
- of a pair both sides are cut alike; when an answer is lost whole, or both are the same, the pair is left out;
- a text is cut into consecutive pieces.  A piece begins with the last token of the one before it, on which no loss
  is taken, so that every token but the text's first is learned exactly once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.trainer.data.examples import Encoder, Example, Judged, Pair, Unrenderable, cut
from services.trainer.data.rows import (
    AnyRow,
    Format,
    Judgement,
    Preference,
    Problem,
    Row,
    Text,
    Turn,
    identity,
)
from services.trainer.settings import Objective, Supervision

Encoded = Example | Pair | Judged


class LeftOut(StrEnum):
    """Why a row is not trained on."""

    NOTHING_LEFT = "nothing of the answer is left after cutting; raise max_row_tokens or shorten the prompt"
    SAME_ANSWERS = "chosen and rejected are the same; drop the row or write the better answer"
    NOTHING_SAID = "no token of it is learned; see the base's chat template"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What becomes of one row: its examples, or why there are none; whether any of it was cut, and its whole length.

    `tokens` of a pair are those of its longer side.
    """

    examples: tuple[Encoded, ...]
    tokens: int
    was_cut: bool = False
    left_out: LeftOut | None = None


_FORMATS = {
    Objective.SUPERVISED: (Format.CHAT, Format.PROMPT_COMPLETION),
    Objective.CONTINUED: (Format.TEXT,),
    Objective.DPO: (Format.PREFERENCE,),
    # A pair is an answer that is wanted and one that is not.
    Objective.KTO: (Format.UNPAIRED_PREFERENCE, Format.PREFERENCE),
}


def default_objective(kind: Format) -> Objective:
    """Return what rows of the format are for."""
    return next((objective for objective, kinds in _FORMATS.items() if kind in kinds), Objective.SUPERVISED)


def mismatch(kind: Format, objective: Objective) -> str | None:
    """Return why the objective cannot be trained for with rows of this format, and what to do; None when it can."""
    if kind in _FORMATS[objective]:
        return None
    needed = " or ".join(_FORMATS[objective])
    if kind is Format.RECORDS:
        return "records are trained on through a recipe that makes rows of them: name one, e.g. classify (trivium train recipes)"
    fits = ", ".join(objective for objective, kinds in _FORMATS.items() if kind in kinds)
    return f"the objective {objective} needs rows of the format {needed}, these are {kind}: choose {fits} for them"


def encode(row: AnyRow, encoder: Encoder, supervision: Supervision = Supervision.ASSISTANT) -> Encoded:
    """Return the row as it is trained on, uncut.  Raises Unrenderable.

    In pairs and judgements the answers alone are supervised, whatever `supervision` says.
    """
    if isinstance(row, Row):
        return encoder.encode(row.turns, supervision, tools=row.tools)
    if isinstance(row, Text):
        return encoder.encode_text(row.text)
    if isinstance(row, Preference):
        chosen, rejected = (_answer(encoder, row, answer) for answer in (row.chosen, row.rejected))
        return Pair(chosen, rejected)
    if isinstance(row, Judgement):
        return Judged(_answer(encoder, row, row.completion), row.desirable)
    raise Unrenderable("a record is trained on through a recipe that makes a row of it: name one")


def _answer(encoder: Encoder, row: Preference | Judgement, answer: Sequence[Turn]) -> Example:
    return encoder.encode((*row.prompt, *answer), said_from=len(row.prompt), tools=row.tools)


def fit(row: AnyRow, encoded: Encoded, max_row_tokens: int) -> Fitted:
    """Cut what `encode` made of the row to `max_row_tokens` (0: no limit), by the rules above."""
    tokens = max(len(side.tokens) for side in sides(encoded))
    limit = max_row_tokens or tokens
    kept = (
        _pieces(encoded, limit) if isinstance(row, Text) and isinstance(encoded, Example) else (_cut(encoded, limit),)
    )
    was_cut = tokens > limit
    if not kept or not all(side.supervised_tokens for example in kept for side in sides(example)):
        return Fitted((), tokens, was_cut, LeftOut.NOTHING_LEFT if was_cut else LeftOut.NOTHING_SAID)
    if isinstance(kept[0], Pair) and kept[0].chosen.tokens == kept[0].rejected.tokens:
        return Fitted((), tokens, was_cut, LeftOut.SAME_ANSWERS)
    return Fitted(kept, tokens, was_cut)


def sides(encoded: Encoded) -> tuple[Example, ...]:
    """The sequences that go through the model."""
    if isinstance(encoded, Pair):
        return encoded.chosen, encoded.rejected
    return (encoded.example if isinstance(encoded, Judged) else encoded,)


def _cut(encoded: Encoded, limit: int) -> Encoded:
    if isinstance(encoded, Pair):
        return Pair(cut(encoded.chosen, limit), cut(encoded.rejected, limit))
    if isinstance(encoded, Judged):
        return Judged(cut(encoded.example, limit), encoded.desirable)
    return cut(encoded, limit)


def _pieces(text: Example, limit: int) -> tuple[Example, ...]:
    """Cut a text into pieces of `limit` tokens, of which each but the first repeats one."""
    if text.supervised_tokens == 0 or limit < 2:
        return ()
    starts = range(0, len(text.tokens) - 1, limit - 1)
    return tuple(
        Example(text.tokens[start : start + limit], text.supervised[start : start + limit]) for start in starts
    )


@dataclass(frozen=True, slots=True)
class Preparation:
    """How rows become examples: for which base, for what, and how long they may be."""

    encoder: Encoder
    objective: Objective
    supervision: Supervision
    max_row_tokens: int

    def of(self, row: AnyRow) -> Fitted:
        """Return what is trained on of the row.  Raises Unrenderable."""
        fitted = fit(row, encode(row, self.encoder, self.supervision), self.max_row_tokens)
        if self.objective is not Objective.KTO:
            return fitted
        return Fitted(tuple(_unpaired(fitted.examples)), fitted.tokens, fitted.was_cut, fitted.left_out)


def _unpaired(examples: Iterable[Encoded]) -> Iterable[Encoded]:
    for example in examples:
        if isinstance(example, Pair):
            yield Judged(example.chosen, desirable=True)
            yield Judged(example.rejected, desirable=False)
        else:
            yield example


class Untrainable(ValueError):
    """A dataset cannot be trained on; the text says why and what to do."""


@dataclass(slots=True)
class Prepared:
    """All that is trained on of a dataset, in the file's order, and the lines of what is not as it was written.

    `identities[i]` is shared by those examples whose rows say the same: what `split` keeps on one side; `rows` counts
    those of the file, each of which may be several examples or none.
    """

    rows: int = 0
    examples: list[Encoded] = field(default_factory=list)
    identities: list[bytes] = field(default_factory=list)
    cut_lines: list[int] = field(default_factory=list)
    left_out_lines: dict[LeftOut, list[int]] = field(default_factory=dict)


def prepare(rows: Iterable[AnyRow | Problem], preparation: Preparation) -> Prepared:
    """Encode and fit every row.  Raises Untrainable for a bad row, and when nothing is left to train on."""
    prepared = Prepared()
    for row in rows:
        if isinstance(row, Problem):
            raise Untrainable(f"line {row.line}: {row.message}")
        try:
            fitted = preparation.of(row)
        except Unrenderable as error:
            raise Untrainable(f"line {row.line}: {error}") from error
        prepared.rows += 1
        prepared.examples.extend(fitted.examples)
        prepared.identities.extend([identity(row)] * len(fitted.examples))
        if fitted.was_cut:
            prepared.cut_lines.append(row.line)
        if fitted.left_out is not None:
            prepared.left_out_lines.setdefault(fitted.left_out, []).append(row.line)
    if not prepared.examples:
        raise Untrainable(nothing_left(preparation.max_row_tokens, prepared.left_out_lines))
    return prepared


def nothing_left(max_row_tokens: int, left_out: dict[LeftOut, list[int]]) -> str:
    """Say why no row of a dataset is trained on."""
    reasons = "; ".join(f"{len(lines)} rows: {reason}" for reason, lines in left_out.items())
    return f"No row has a token to learn within {max_row_tokens} tokens ({reasons or 'there is no row'})."
