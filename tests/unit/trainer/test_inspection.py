"""What is said of a dataset before anything is spent: lines, counts, warnings with a remedy."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from services.trainer.data.encoding import Preparation
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.inspection import inspect
from services.trainer.data.preview import preview
from services.trainer.data.report import Asked, Lengths, Report
from services.trainer.data.rows import Problem
from services.trainer.data.split import split
from services.trainer.recipes.reading import read
from services.trainer.settings import Objective, Supervision


@pytest.fixture(scope="module")
def encoder(base: Path) -> ChatEncoder:
    return ChatEncoder.load(base)


def lines(*rows: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def asked_and_answered(prompt: str, completion: str = "Yes, that is so.") -> dict[str, Any]:
    return {"prompt": prompt, "completion": completion}


def looked_at(
    encoder: ChatEncoder, file: io.BytesIO, validation: io.BytesIO | None = None, **asked: Any
) -> tuple[Report, list[Problem]]:
    said: list[Problem] = []
    return inspect(file, validation, encoder, Asked(**asked), said.append), said


LONG = "The night watch has the key of the gate, and it hangs it on the third nail beside the stove every evening."


def test_rows_are_counted_as_they_will_be_trained_on(encoder: ChatEncoder) -> None:
    rows = [asked_and_answered(f"Question number {number}, what of it?") for number in range(10)]
    report, said = looked_at(encoder, lines(*rows), epochs=2, batch_rows=4)
    assert (report.objective, report.rows, report.examples, report.training_examples) == (
        Objective.SUPERVISED,
        10,
        10,
        10,
    )
    example = encoder.encode_text("Yes, that is so.")
    assert report.supervised_tokens == 10 * len(example.tokens)
    assert report.tokens == report.lengths.median_tokens * 10
    assert (report.steps, report.trained_tokens) == (6, 2 * report.supervised_tokens)
    assert report.labels == (("Yes, that is so.", 10),)
    assert not [problem for problem in said if problem.fatal]


def test_lengths_are_counted_in_powers_of_two() -> None:
    lengths = Lengths.of([1, 2, 3, 4, 5, 8, 9, 16, 17, 100])
    assert lengths.buckets == ((1, 1), (2, 1), (4, 2), (8, 2), (16, 2), (32, 1), (128, 1))
    assert (lengths.median_tokens, lengths.p90_tokens, lengths.p99_tokens, lengths.longest_tokens) == (5, 17, 100, 100)


def test_rows_that_are_cut_and_left_out_are_named_with_the_reason(encoder: ChatEncoder) -> None:
    file = lines(asked_and_answered("Who?"), asked_and_answered("Who?", LONG), asked_and_answered("x" * 200))
    report, said = looked_at(encoder, file, max_row_tokens=100)
    assert (report.rows, report.examples, report.cut_rows, report.left_out[0][1]) == (3, 2, 2, 1)
    assert [(problem.line, problem.fatal) for problem in said] == [(2, False), (3, False)]
    assert "over 100; it will be cut at its end" in said[0].message
    assert "will be left out: nothing of the answer is left" in said[1].message
    assert any("1 of 3 rows are left out" in warning for warning in report.warnings)
    assert any(f"the longest has {report.lengths.longest_tokens}" in warning for warning in report.warnings)


def test_a_dataset_of_which_nothing_is_left_is_a_problem(encoder: ChatEncoder) -> None:
    report, said = looked_at(encoder, lines(asked_and_answered(LONG)), max_row_tokens=16)
    assert (report.examples, report.steps) == (0, 0)
    assert said[-1].fatal
    assert "No row has a token to learn within 16 tokens" in said[-1].message


def test_an_objective_that_the_rows_are_not_for_is_a_problem(encoder: ChatEncoder) -> None:
    report, said = looked_at(encoder, lines(asked_and_answered("Who?")), objective=Objective.DPO)
    assert [problem.fatal for problem in said] == [True]
    assert "choose supervised for them" in said[0].message
    assert (report.rows, report.examples) == (1, 0)


def test_rows_that_repeat_others_or_nearly_do_are_named(encoder: ChatEncoder) -> None:
    nearly = LONG.replace("third nail", "fourth nail").upper()
    file = lines(
        asked_and_answered(LONG), asked_and_answered("Who?"), asked_and_answered(LONG), asked_and_answered(nearly)
    )
    report, said = looked_at(encoder, file)
    assert (report.duplicate_rows, report.near_duplicate_rows, report.compared_rows) == (1, 1, 3)
    assert [(problem.line, problem.message.split(";")[0]) for problem in said] == [
        (3, "the row repeats line 1"),
        (4, "the row says nearly the same as line 1"),
    ]


def test_short_rows_that_differ_in_a_word_are_not_nearly_the_same(encoder: ChatEncoder) -> None:
    report, said = looked_at(
        encoder, lines(asked_and_answered("Is it red?", "No."), asked_and_answered("Is it blue?", "No."))
    )
    assert (report.near_duplicate_rows, said) == (0, [])


def test_rows_that_are_in_the_validation_dataset_too_are_named(encoder: ChatEncoder) -> None:
    file = lines(asked_and_answered("Who?"), asked_and_answered(LONG), asked_and_answered("When?"))
    held_out = lines(asked_and_answered("Who?"), asked_and_answered(LONG.replace("evening", "night")))
    report, said = looked_at(encoder, file, held_out)
    assert (report.shared_rows, report.near_shared_rows) == (1, 1)
    assert [problem.line for problem in said] == [1, 2]
    assert any("measures memory" in warning for warning in report.warnings)


def test_rows_that_are_held_out_and_nearly_repeat_what_is_trained_on_are_counted(encoder: ChatEncoder) -> None:
    alike = [asked_and_answered(LONG.replace("third", word)) for word in ("third", "fourth", "fifth")]
    rows = [*alike, *(asked_and_answered(f"What is {number} and {number}?") for number in range(7))]
    counted = set()
    for seed in range(20):
        report, _ = looked_at(encoder, lines(*rows), validation_ratio=0.3, seed=seed)
        held_out = sum(row < len(alike) for row in split(range(len(rows)), 0.3, 0, seed)[1])
        counted.add(held_out)
        # Where all three are held out none was learned from.
        expected = held_out if held_out < len(alike) else 0
        assert report.near_held_out_rows == expected
        warned = [warning for warning in report.warnings if "rows that are held out nearly repeat" in warning]
        assert [warning.split()[0] for warning in warned] == ([str(expected)] if expected else [])
    assert counted >= {0, 1, 2}
    assert looked_at(encoder, lines(*rows))[0].near_held_out_rows == 0


def test_a_run_of_fewer_steps_than_teach_anything_is_warned_of(encoder: ChatEncoder) -> None:
    rows = [asked_and_answered(f"What is {number} and {number}?") for number in range(20)]
    few, enough = (looked_at(encoder, lines(*rows), batch_rows=1, epochs=1, sample_rows=taken) for taken in (19, 20))
    assert "The run has only 19 steps to learn in: add rows, raise epochs or lower batch_rows." in few[0].warnings
    assert not any("steps to learn in" in warning for warning in enough[0].warnings)


def test_labels_are_counted_and_an_imbalance_is_warned_of(encoder: ChatEncoder) -> None:
    rows = [
        asked_and_answered(f"Is {number} even, or is it odd?", "rare" if number < 4 else "common")
        for number in range(60)
    ]
    report, _ = looked_at(encoder, lines(*rows))
    assert report.labels == (("common", 56), ("rare", 4))
    assert any("'common' has 56 rows and 'rare' has 4. Add rows" in warning for warning in report.warnings)


def test_an_answer_that_is_empty_is_named(encoder: ChatEncoder) -> None:
    turns = [("user", "a"), ("assistant", " "), ("user", "b"), ("assistant", "c")]
    file = lines({"messages": [{"role": role, "content": content} for role, content in turns]})
    report, said = looked_at(encoder, file)
    assert report.empty_completions == 1
    assert (said[0].line, said[0].field, said[0].fatal) == (1, "messages", False)


def test_pairs_that_teach_length_are_warned_of_and_equal_ones_left_out(encoder: ChatEncoder) -> None:
    rows = [
        {"prompt": f"Question {number}?", "chosen": f"A long answer to {number}.", "rejected": f"{number}."}
        for number in range(20)
    ]
    report, said = looked_at(encoder, lines(*rows, {"prompt": "Who?", "chosen": "Me.", "rejected": "Me."}))
    assert (report.objective, report.pairs.pairs, report.pairs.same) == (Objective.DPO, 21, 1)
    assert report.pairs.chosen_longer_ratio == 1.0
    assert report.pairs.chosen_tokens > report.pairs.rejected_tokens
    assert any("length is what will be learned" in warning for warning in report.warnings)
    assert (said[-1].line, "chosen and rejected are the same" in said[-1].message) == (21, True)


@pytest.mark.parametrize(
    ("labels", "says"),
    [([True] * 3, "All answers have the same label"), ([True] * 9 + [False], "raise undesirable_weight to about 9.0")],
)
def test_judgements_that_are_one_sided_are_warned_of(encoder: ChatEncoder, labels: list[bool], says: str) -> None:
    rows = [
        {"prompt": f"Question {number}?", "completion": "Yes.", "label": label} for number, label in enumerate(labels)
    ]
    report, _ = looked_at(encoder, lines(*rows))
    assert (report.desirable_rows, report.undesirable_rows) == (labels.count(True), labels.count(False))
    assert any(says in warning for warning in report.warnings)


def test_a_split_and_a_sample_are_counted_in(encoder: ChatEncoder) -> None:
    rows = [asked_and_answered(f"Question {number}?") for number in range(100)]
    report, _ = looked_at(encoder, lines(*rows), sample_rows=50, validation_ratio=0.1, batch_rows=10, epochs=1)
    assert (report.training_examples, report.validation_examples, report.steps) == (45, 5, 5)
    assert any("5 examples are held out, too few" in warning for warning in report.warnings)


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"text": f"Number {number}.", "label": "even" if number % 2 else "odd"} for number in range(count)]


def test_records_are_checked_as_the_recipe_makes_rows_of_them(encoder: ChatEncoder) -> None:
    rows = labelled(8)
    report, said = looked_at(encoder, lines(*rows, rows[0]))
    assert (report.rows, report.examples, report.duplicate_rows) == (9, 9, 1)
    assert report.labels == (("odd", 5), ("even", 4))
    assert [(problem.line, problem.fatal) for problem in said] == [(9, False)]
    report, said = looked_at(encoder, lines(*rows), lines(rows[1]), recipe="classify:letters")
    # Letters of the labels that are trained on, also where the other file has but one of them.
    assert (report.labels, report.shared_rows) == ((("B", 4), ("A", 4)), 1)


def test_a_recipe_that_records_do_not_fit_is_a_problem(encoder: ChatEncoder) -> None:
    _, said = looked_at(encoder, lines(*labelled(3)), recipe="prefer")
    assert said[0].fatal
    assert "records become conversations by one of the recipes" in said[0].message
    _, said = looked_at(encoder, lines(*labelled(3)), recipe="rewrite")
    assert [problem.line for problem in said[:3]] == [1, 2, 3]
    assert 'the row has no "output"' in said[0].message


def test_what_the_system_says_makes_no_rows_the_same(encoder: ChatEncoder) -> None:
    rows = [
        {"messages": [{"role": "system", "content": LONG}, {"role": "user", "content": text}, ANSWER]}
        for text in ("Where is the ladder?", "Who has the key?")
    ]
    report, _ = looked_at(encoder, lines(*rows))
    assert (report.duplicate_rows, report.near_duplicate_rows) == (0, 0)


ANSWER = {"role": "assistant", "content": "Ask the night watch."}


def test_texts_beside_an_answer_that_is_not_read_are_warned_of(encoder: ChatEncoder) -> None:
    file = io.BytesIO(b"text,category\nMy card is lost.,lost_card\n")
    report, _ = looked_at(encoder, file)
    assert report.objective is Objective.CONTINUED
    assert "only its text is learned from, and not: category" in report.warnings[0]


def shown(
    encoder: ChatEncoder,
    file: io.BytesIO,
    objective: Objective,
    offset: int = 0,
    limit: int = 0,
    rows: int = 2,
    supervision: Supervision = Supervision.ASSISTANT,
) -> Any:
    preparation = Preparation(encoder, objective, supervision, limit)
    return preview(read(file), preparation, encoder.tokenizer, offset, rows)


def test_a_preview_shows_every_token_and_which_are_learned(encoder: ChatEncoder) -> None:
    file = lines(asked_and_answered("Où?", "Là-bas, 日本."), asked_and_answered("b"), asked_and_answered("c"))
    (first, second), following = shown(encoder, file, Objective.SUPERVISED)
    assert "".join(text for text, _ in first.tokens) == (
        "<|im_start|>user\nOù?<|im_end|>\n<|im_start|>assistant\nLà-bas, 日本.<|im_end|>"
    )
    assert "".join(text for text, supervised in first.tokens if supervised) == "Là-bas, 日本.<|im_end|>"
    assert (first.line, second.line, following) == (1, 2, 2)
    (last,), following = shown(encoder, file, Objective.SUPERVISED, offset=2)
    assert (last.line, following) == (3, 0)


@pytest.mark.parametrize("limit", [0, 30], ids=["whole", "cut"])
@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"text": LONG}, {"objective": Objective.CONTINUED}),
        (asked_and_answered(LONG), {"objective": Objective.SUPERVISED, "supervision": Supervision.ALL}),
    ],
    ids=["text", "every token of a chat"],
)
def test_a_preview_shows_as_learned_what_a_report_counts_and_never_a_first_token(
    encoder: ChatEncoder, row: dict[str, Any], wanted: dict[str, Any], limit: int
) -> None:
    report, _ = looked_at(encoder, lines(row), max_row_tokens=limit, **wanted)
    found, _ = shown(encoder, lines(row), limit=limit, **wanted)
    assert len(found) == report.examples
    assert not any(entry.tokens[0][1] for entry in found)
    assert sum(learned for entry in found for _, learned in entry.tokens) == report.supervised_tokens > 0


def test_a_preview_of_pairs_shows_both_sides_and_of_judgements_whether_they_are_wanted(encoder: ChatEncoder) -> None:
    file = lines({"prompt": "Who?", "chosen": "Me.", "rejected": "You."})
    (pair,), _ = shown(encoder, file, Objective.DPO)
    learned = ["".join(text for text, supervised in side if supervised) for side in (pair.tokens, pair.rejected)]
    assert learned == ["Me.<|im_end|>", "You.<|im_end|>"]
    judged, _ = shown(encoder, file, Objective.KTO)
    assert [row.desirable for row in judged] == [True, False]


def test_a_preview_says_why_a_row_is_not_trained_on(encoder: ChatEncoder) -> None:
    file = lines(asked_and_answered(LONG), {"prompt": "a"})
    (left_out, broken), _ = shown(encoder, file, Objective.SUPERVISED, limit=20)
    assert "nothing of the answer is left" in left_out.note
    assert LONG in "".join(text for text, _ in left_out.tokens)
    assert (broken.line, broken.tokens, "add what should be answered" in broken.note) == (2, (), True)


def test_previews_of_one_answer_after_another_show_every_row_once(encoder: ChatEncoder) -> None:
    file = lines(*[asked_and_answered(f"{number}", "x" * 9000) for number in range(5)])
    seen, offset = [], 0
    while True:
        found, offset = shown(encoder, file, Objective.SUPERVISED, offset, rows=10)
        assert sum(len(row.tokens) for row in found) < 40_000
        seen += [row.line for row in found]
        if not offset:
            break
    assert seen == list(range(1, 6))
