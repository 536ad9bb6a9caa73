import io
from pathlib import Path

import pytest

from services.trainer.data import checking
from services.trainer.data.examples import ChatEncoder, Unrenderable, cut
from services.trainer.data.inspection import inspect
from services.trainer.data.report import Asked
from services.trainer.data.rows import Problem, Turn
from services.trainer.solo.feeds import labelled, padded

CONVERSATION = [
    Turn("system", "Be brief."),
    Turn("user", "Who has the key?"),
    Turn("assistant", "I do."),
    Turn("user", "And the ladder?"),
    Turn("assistant", "You do."),
]


def learned(encoder: ChatEncoder, turns: list[Turn]) -> str:
    example = encoder.encode(turns)
    kept = [token for token, counts in zip(example.tokens, example.supervised, strict=True) if counts]
    return str(encoder.tokenizer.decode(kept))


def test_only_what_the_assistant_says_is_learned_and_where_it_stops(base: Path) -> None:
    assert learned(ChatEncoder.load(base), CONVERSATION) == "I do.<|im_end|>You do.<|im_end|>"


def test_characters_of_several_bytes_are_learned_whole(base: Path) -> None:
    said = [Turn("user", "Où?"), Turn("assistant", "Là-bas, près de l’église.")]
    assert learned(ChatEncoder.load(base), said) == "Là-bas, près de l’église.<|im_end|>"


def test_nothing_follows_the_last_mark(base: Path) -> None:
    encoder = ChatEncoder.load(base)
    assert encoder.encode(CONVERSATION).tokens[-1] == encoder.tokenizer.eos_token_id


def test_cutting_keeps_the_question_and_counts_what_is_left(base: Path) -> None:
    example = ChatEncoder.load(base).encode(CONVERSATION)
    short = cut(example, 20)
    assert short.tokens == example.tokens[:20]
    assert short.supervised_tokens == 0


def test_padding_and_questions_are_labelled_as_ignored(base: Path) -> None:
    encoder = ChatEncoder.load(base)
    long, short = encoder.encode(CONVERSATION), encoder.encode(CONVERSATION[:3])
    batch = labelled(padded([short, long]))
    tokens, attention, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    assert tokens.shape == (2, len(long.tokens))
    assert attention[0].sum() == len(short.tokens)
    assert (labels[0] != -100).sum() == short.supervised_tokens
    assert bool((labels[0, len(short.tokens) :] == -100).all())
    kept = labels != -100
    assert bool((labels[kept] == tokens[kept]).all())


@pytest.fixture
def refusing(base: Path) -> ChatEncoder:
    """An encoder whose template takes no turns of tools."""
    encoder = ChatEncoder.load(base)
    template = encoder.tokenizer.chat_template
    encoder.tokenizer.chat_template = (
        "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}" + template
    )
    return encoder


GOOD = b'{"prompt": "Who?", "completion": "Me."}\n'


def test_a_conversation_that_the_template_refuses_is_a_problem_of_its_row(refusing: ChatEncoder) -> None:
    with pytest.raises(Unrenderable, match="no tools"):
        refusing.encode([Turn("tool", "a"), Turn("assistant", "b")])
    bad = b'{"prompt": [{"role": "tool", "content": "a"}], "completion": "Me."}\n'
    said: list[Problem] = []
    assert inspect(io.BytesIO(GOOD + bad + GOOD), None, refusing, Asked(), said.append).rows == 3
    assert [(problem.line, problem.fatal) for problem in said] == [(2, True), (3, False)]
    assert "no tools" in said[0].message


@pytest.mark.parametrize(
    ("answers", "sides"),
    [
        ('"completion": "Me."', ["Me."]),
        ('"chosen": "Me.", "rejected": "You, or her."', ["Me.", "You, or her."]),
        ('"completion": "Me.", "label": true', ["Me."]),
    ],
    ids=["chat", "pair", "judgement"],
)
def test_a_dataset_is_counted_and_warned_of_where_another_bases_template_may_take_what_the_default_ones_does_not(
    refusing: ChatEncoder, answers: str, sides: list[str]
) -> None:
    row = f'{{"prompt": [{{"role": "tool", "content": "a"}}], {answers}}}\n'.encode()
    said: list[Problem] = []
    found = checking.check(io.BytesIO(row + row), refusing, None, said.append)
    assert [(problem.line, problem.fatal) for problem in said] == [(1, False), (2, False)]
    assert "no tools" in said[0].message
    assert "--base base:NAME" in said[0].message
    lengths = [len(refusing.encode_text(side).tokens) for side in sides]
    prompt = len(refusing.encode_text("a").tokens)
    assert isinstance(found, checking.Counted)
    assert (found.rows, found.supervised_tokens) == (2, 2 * sum(lengths))
    assert found.tokens == 2 * sum(prompt + length for length in lengths)
    assert found.max_row_tokens == prompt + max(lengths)
