"""Reads a dataset as an order would train on it, and says everything about it that is worth knowing before.

Invariant: each row is encoded, cut and left out by the very code that training uses (`encoding.Preparation`), so
that what a report counts is what a run does.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from services.trainer.data import reading
from services.trainer.data.encoding import (
    Encoded,
    Fitted,
    LeftOut,
    Preparation,
    default_objective,
    mismatch,
    nothing_left,
    sides,
)
from services.trainer.data.examples import Encoder, Judged, Pair, Unrenderable
from services.trainer.data.labels import Labels
from services.trainer.data.records import Record
from services.trainer.data.report import Asked, Lengths, Pairs, Report, advice, steps_of
from services.trainer.data.rows import (
    FIELDS,
    AnyRow,
    Format,
    Judgement,
    Preference,
    Problem,
    Row,
    Text,
    Turn,
    identity,
    named,
)
from services.trainer.data.similarity import Similar
from services.trainer.data.split import split
from services.trainer.recipes import reading as recipe_reading
from services.trainer.settings import Objective

Say = Callable[[Problem], None]

# Signatures and places of so many rows fit in what a check may take.
_COMPARED_ROWS = 50_000
# A label occurs more than once.
_ROWS_PER_LABEL = 3


def inspect(file: BinaryIO, validation: BinaryIO | None, encoder: Encoder, asked: Asked, say: Say) -> Report:
    """Read the whole dataset; `say` hears every problem and warning of a line, in order."""
    kind = reading.recognise(file) or Format.CHAT
    objective = asked.objective or default_objective(kind)
    # A recipe makes conversations of records.
    why = mismatch(Format.CHAT if kind is Format.RECORDS else kind, objective)
    if why is not None:
        say(Problem(1, "", why))
        report = Report(objective, asked.max_row_tokens, warnings=(f"{why[0].upper()}{why[1:]}.",))
        return replace(report, rows=sum(not isinstance(row, Problem) for row in reading.read(file)))
    preparation = Preparation(encoder, objective, asked.supervision, asked.max_row_tokens)
    others = None
    if validation is not None:
        others = _Others.of(recipe_reading.read(validation, asked.recipe, asked.seed, file))
    seen = _Seen(preparation, say, others)
    for row in recipe_reading.read(file, asked.recipe, asked.seed):
        seen.take(row)
    report = seen.report(asked)
    return replace(report, warnings=(*_unread(file, kind), *report.warnings))


def _unread(file: BinaryIO, kind: Format) -> Iterator[str]:
    """Warn of texts beside which stands what somebody may have meant to be answered."""
    first = next((record for record in reading.records(file) if isinstance(record, Record)), None)
    names = [name for name in first.fields if name not in FIELDS] if first is not None else []
    if kind is Format.TEXT and names:
        yield (
            f"Of each row only its text is learned from, and not: {named(names)}. If one of these is what should be "
            "answered, name it label or output."
        )


@dataclass(slots=True)
class _Others:
    """The rows of a validation dataset: their identities, and what they say."""

    identities: set[bytes] = field(default_factory=set)
    similar: Similar = field(default_factory=Similar)

    @classmethod
    def of(cls, rows: Iterable[AnyRow | Problem]) -> "_Others":
        """Remember the rows of a dataset."""
        others = cls()
        for count, row in enumerate(rows):
            if not isinstance(row, Problem):
                others.identities.add(identity(row))
                if count < _COMPARED_ROWS:
                    others.similar.add(row.line, said_in(row))
        return others


@dataclass(slots=True)
class _Seen:
    """What was seen so far."""

    preparation: Preparation
    say: Say
    others: _Others | None
    rows: int = 0
    cut_rows: int = 0
    tokens: int = 0
    supervised_tokens: int = 0
    shared_rows: int = 0
    near_shared_rows: int = 0
    near_duplicate_rows: int = 0
    empty_completions: int = 0
    compared_rows: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)
    supervised: list[int] = field(default_factory=list)
    # The line of the first row of each identity, and for each example the identity of its row.
    first_lines: dict[bytes, int] = field(default_factory=dict)
    identities: list[bytes] = field(default_factory=list)
    # Of a row that says nearly the same as an earlier one: that one's line.
    near_lines: dict[bytes, int] = field(default_factory=dict)
    labels: Labels = field(default_factory=Labels)
    judged: Counter[bool] = field(default_factory=Counter)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    similar: Similar = field(default_factory=Similar)

    def take(self, row: AnyRow | Problem) -> None:
        """Look at one row."""
        if isinstance(row, Problem):
            self.say(row)
            return
        self.rows += 1
        try:
            fitted = self.preparation.of(row)
        except Unrenderable as error:
            self.say(Problem(row.line, "messages", str(error)))
            return
        self._fitted(row.line, fitted)
        self._compared(row, fitted)
        self._answered(row)

    def _warn(self, line: int, message: str, field_name: str = "") -> None:
        self.say(Problem(line, field_name, message, fatal=False))

    def _fitted(self, line: int, fitted: Fitted) -> None:
        limit = self.preparation.max_row_tokens
        self.lengths.append(fitted.tokens)
        if fitted.left_out is not None:
            self.left_out[fitted.left_out] += 1
            self._warn(line, f"the row has {fitted.tokens} tokens and will be left out: {fitted.left_out}")
        if fitted.was_cut:
            self.cut_rows += 1
        if fitted.was_cut and fitted.left_out is None:
            pieces = len(fitted.examples)
            fate = f"cut into {pieces} pieces" if pieces > 1 and self._texts else "cut at its end"
            self._warn(
                line,
                f"the row has {fitted.tokens} tokens, over {limit}; it will be {fate} unless max_row_tokens is raised",
            )
        for example in fitted.examples:
            self._example(example)

    @property
    def _texts(self) -> bool:
        return self.preparation.objective is Objective.CONTINUED

    def _example(self, example: Encoded) -> None:
        self.tokens += sum(len(side.tokens) for side in sides(example))
        supervised = sum(side.supervised_tokens for side in sides(example))
        self.supervised_tokens += supervised
        self.supervised.append(supervised)
        if isinstance(example, Judged):
            self.judged[example.desirable] += 1
        if isinstance(example, Pair):
            self.pairs.append((example.chosen.supervised_tokens, example.rejected.supervised_tokens))

    def _compared(self, row: AnyRow, fitted: Fitted) -> None:
        same = identity(row)
        self.identities.extend([same] * len(fitted.examples))
        earlier = self.first_lines.setdefault(same, row.line)
        if earlier != row.line:
            self._warn(row.line, f"the row repeats line {earlier}; drop one of them")
        if self.others is not None and same in self.others.identities:
            self.shared_rows += 1
            self._warn(row.line, "the row is in the validation dataset too; remove it from one of the two")
        if earlier != row.line or self.compared_rows >= _COMPARED_ROWS:
            return
        self.compared_rows += 1
        text = said_in(row)
        if (near := self.similar.find(text)) is not None:
            self.near_duplicate_rows += 1
            self.near_lines[same] = near
            self._warn(row.line, f"the row says nearly the same as line {near}; keep one of them")
        else:
            self.similar.add(row.line, text)
        if self.others is None or same in self.others.identities:
            return
        if (near := self.others.similar.find(text)) is not None:
            self.near_shared_rows += 1
            self._warn(
                row.line, f"the row says nearly the same as line {near} of the validation dataset; remove one of them"
            )

    def _answered(self, row: AnyRow) -> None:
        if isinstance(row, Row) and not all(turn.said.strip() for turn in row.turns if turn.role == "assistant"):
            self.empty_completions += 1
            self._warn(row.line, "an answer in it is empty; write it or drop the message", "messages")
        self.labels.add(row)

    def report(self, asked: Asked) -> Report:
        """Sum up, and warn of what the whole says.  A dataset with nothing to train on is a problem."""
        if not self.identities:
            lines = {reason: [0] * count for reason, count in self.left_out.items()}
            self.say(Problem(1, "", nothing_left(asked.max_row_tokens, lines)))
        train, held_out = split(self.identities, asked.validation_ratio, asked.sample_rows, asked.seed)
        steps = steps_of(len(train), asked)
        once = sum(self.supervised[index] for index in train)
        found = Report(
            objective=self.preparation.objective,
            max_row_tokens=asked.max_row_tokens,
            rows=self.rows,
            examples=len(self.identities),
            cut_rows=self.cut_rows,
            left_out=tuple((reason.value, count) for reason, count in self.left_out.most_common()),
            tokens=self.tokens,
            supervised_tokens=self.supervised_tokens,
            lengths=Lengths.of(self.lengths),
            duplicate_rows=self.rows - len(self.first_lines),
            near_duplicate_rows=self.near_duplicate_rows,
            compared_rows=self.compared_rows,
            shared_rows=self.shared_rows,
            near_shared_rows=self.near_shared_rows,
            near_held_out_rows=self._near_held_out(train, held_out),
            empty_completions=self.empty_completions,
            labels=self._labels(),
            pairs=_pairs(self.pairs, self.left_out[LeftOut.SAME_ANSWERS]),
            desirable_rows=self.judged[True],
            undesirable_rows=self.judged[False],
            training_examples=len(train),
            validation_examples=len(held_out),
            steps=steps,
            trained_tokens=_trained(once, len(train), steps, asked),
        )
        return replace(found, warnings=tuple(advice(found, asked)))

    def _near_held_out(self, train: Iterable[int], held_out: Iterable[int]) -> int:
        """How many rows are held out while one that says nearly the same is trained on; equal ones are never apart."""

        def like(same: bytes) -> int:
            return self.near_lines.get(same, self.first_lines[same])

        learned = {like(self.identities[index]) for index in train}
        return sum(like(same) in learned for same in {self.identities[index] for index in held_out})

    def _labels(self) -> tuple[tuple[str, int], ...]:
        counted = self.labels.counted()
        return tuple(counted) if self.rows >= _ROWS_PER_LABEL * len(counted) else ()


def _trained(once: int, examples: int, steps: int, asked: Asked) -> int:
    """Supervised tokens of a run: of all its epochs, or of those steps that `max_steps` leaves."""
    whole = steps_of(examples, replace(asked, max_steps=0))
    return round(once * asked.epochs * steps / whole) if whole else 0


def _pairs(answers: list[tuple[int, int]], same: int) -> Pairs:
    if not answers:
        return Pairs(same, same)
    chosen, rejected = (sum(side) / len(answers) for side in zip(*answers, strict=True))
    longer = sum(ours > theirs for ours, theirs in answers) / len(answers)
    return Pairs(len(answers) + same, same, chosen, rejected, longer)


def said_in(row: AnyRow) -> str:
    """What a row says, as one text, without what the system says: that is the same in every row."""
    return "\n".join(_texts_of(row))


def _texts_of(row: AnyRow) -> Iterator[str]:
    if isinstance(row, Row):
        yield from _said(row.turns)
    elif isinstance(row, Preference):
        yield from _said((*row.prompt, *row.chosen, *row.rejected))
    elif isinstance(row, Judgement):
        yield from _said((*row.prompt, *row.completion))
    elif isinstance(row, Text):
        yield row.text


def _said(turns: Iterable[Turn]) -> Iterator[str]:
    return (turn.said for turn in turns if turn.role != "system")
