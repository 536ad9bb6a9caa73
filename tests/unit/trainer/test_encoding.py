"""From rows to what is trained on: what is supervised, what is cut, what is left out, and what is said of it."""

from pathlib import Path

import pytest

from services.trainer.data.encoding import (
    LeftOut,
    Preparation,
    Prepared,
    Untrainable,
    default_objective,
    encode,
    mismatch,
    prepare,
    sides,
)
from services.trainer.data.examples import ChatEncoder, Example, Judged, Pair
from services.trainer.data.rows import AnyRow, Format, Judgement, Labelled, Preference, Problem, Row, Text, Turn
from services.trainer.settings import Objective, Supervision

ASKED = (Turn("user", "Who?"),)
ME, YOU = (Turn("assistant", "Me."),), (Turn("assistant", "You."),)
PAIR = Preference(1, ASKED, ME, YOU)
CHAT = Row(1, (*ASKED, *ME, Turn("user", "Sure?"), Turn("assistant", "Yes.")))


@pytest.fixture(scope="module")
def encoder(base: Path) -> ChatEncoder:
    return ChatEncoder.load(base)


def text_of(encoder: ChatEncoder, example: Example, *, supervised: bool = True) -> str:
    kept = [token for token, counts in zip(example.tokens, example.supervised, strict=True) if counts or not supervised]
    return str(encoder.tokenizer.decode(kept))


def prepared(
    encoder: ChatEncoder, *rows: AnyRow | Problem, limit: int = 0, objective: Objective = Objective.SUPERVISED
) -> Prepared:
    return prepare(rows, Preparation(encoder, objective, Supervision.ASSISTANT, limit))


@pytest.mark.parametrize(
    ("supervision", "learned"),
    [
        (Supervision.ASSISTANT, "Me.<|im_end|>Yes.<|im_end|>"),
        (Supervision.LAST_ANSWER, "Yes.<|im_end|>"),
        (
            Supervision.ALL,
            "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\nMe.<|im_end|>\n"
            "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>",
        ),
    ],
)
def test_the_loss_is_taken_where_it_is_asked_for(encoder: ChatEncoder, supervision: Supervision, learned: str) -> None:
    example = encode(CHAT, encoder, supervision)
    assert isinstance(example, Example)
    assert text_of(encoder, example) == learned


def test_of_a_pair_the_answers_are_learned_and_no_answer_of_its_prompt(encoder: ChatEncoder) -> None:
    pair = encode(Preference(1, CHAT.turns[:3], ME, YOU), encoder, Supervision.ALL)
    assert isinstance(pair, Pair)
    assert [text_of(encoder, side) for side in sides(pair)] == ["Me.<|im_end|>", "You.<|im_end|>"]


def test_a_judgement_is_an_answer_and_whether_it_is_wanted(encoder: ChatEncoder) -> None:
    judged = encode(Judgement(1, ASKED, ME, desirable=False), encoder)
    assert isinstance(judged, Judged)
    assert (text_of(encoder, judged.example), judged.desirable) == ("Me.<|im_end|>", False)


@pytest.mark.parametrize("limit", [2, 3, 7, 64, 4096])
def test_every_token_of_a_text_is_learned_once_whatever_the_length_of_its_pieces(
    encoder: ChatEncoder, limit: int
) -> None:
    text = "Once there was a night watch. " * 9
    found = prepared(encoder, Text(1, text), limit=limit, objective=Objective.CONTINUED)
    pieces = [piece for piece in found.examples if isinstance(piece, Example)]
    assert all(len(piece.tokens) <= limit for piece in pieces)
    whole = encoder.encode_text(text).tokens
    assert whole[-1] == encoder.tokenizer.eos_token_id
    assert whole[:1] + tuple(token for piece in pieces for token in piece.tokens[1:]) == whole
    assert sum(piece.supervised_tokens for piece in pieces) == len(whole) - 1
    assert len(set(found.identities)) == 1


def test_a_long_conversation_loses_its_end_and_one_without_an_answer_left_is_left_out(encoder: ChatEncoder) -> None:
    whole = encode(CHAT, encoder)
    assert isinstance(whole, Example)
    long_question = Row(2, (Turn("user", "Who? " * 40), *ME))
    found = prepared(encoder, CHAT, long_question, Row(3, CHAT.turns[:2]), limit=50)
    assert found.examples[0] == Example(whole.tokens[:50], whole.supervised[:50])
    assert (found.cut_lines, found.left_out_lines) == ([1, 2], {LeftOut.NOTHING_LEFT: [2]})
    assert len(found.examples) == len(found.identities) == 2


def test_pairs_that_cannot_be_told_apart_are_left_out(encoder: ChatEncoder) -> None:
    same = Preference(1, ASKED, ME, ME)
    alike = Preference(2, ASKED, (Turn("assistant", "M" * 90 + "e"),), (Turn("assistant", "M" * 90 + "y"),))
    found = prepared(encoder, same, alike, PAIR, limit=90, objective=Objective.DPO)
    assert found.left_out_lines == {LeftOut.SAME_ANSWERS: [1, 2]}
    assert len(found.examples) == 1


def test_for_kto_a_pair_is_two_judgements(encoder: ChatEncoder) -> None:
    found = prepared(encoder, PAIR, objective=Objective.KTO)
    assert [example.desirable for example in found.examples if isinstance(example, Judged)] == [True, False]
    assert len(set(found.identities)) == 1


@pytest.mark.parametrize(
    ("row", "limit", "says"),
    [
        (CHAT, 8, "No row has a token to learn within 8 tokens (1 rows: nothing of the answer is left"),
        (Preference(1, ASKED, ME, ME), 0, "chosen and rejected are the same"),
        (Problem(4, "text", "the text is empty"), 0, "line 4: the text is empty"),
        (Labelled(5, {"text": "a", "label": "b"}), 0, "line 5: a record is trained on through a recipe"),
    ],
)
def test_a_dataset_with_nothing_to_train_on_is_refused_with_the_reason(
    encoder: ChatEncoder, row: AnyRow | Problem, limit: int, says: str
) -> None:
    with pytest.raises(Untrainable) as refused:
        prepared(encoder, row, limit=limit)
    assert says in str(refused.value)


def test_an_empty_dataset_is_refused(encoder: ChatEncoder) -> None:
    with pytest.raises(Untrainable):
        prepared(encoder)


def test_each_format_is_for_the_objectives_that_it_fits_and_the_others_are_refused_with_what_to_do() -> None:
    assert {kind: default_objective(kind) for kind in Format} == {
        Format.CHAT: Objective.SUPERVISED,
        Format.PROMPT_COMPLETION: Objective.SUPERVISED,
        Format.TEXT: Objective.CONTINUED,
        Format.PREFERENCE: Objective.DPO,
        Format.UNPAIRED_PREFERENCE: Objective.KTO,
        Format.RECORDS: Objective.SUPERVISED,
    }
    assert mismatch(Format.PREFERENCE, Objective.KTO) is None
    assert mismatch(Format.CHAT, Objective.DPO) == (
        "the objective dpo needs rows of the format preference, these are chat: choose supervised for them"
    )
    assert "name one" in str(mismatch(Format.RECORDS, Objective.SUPERVISED))
