"""Templates with marks: TRL's, a base's own, and that both ways of finding what is said agree."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from services.trainer.data.examples import ChatEncoder, Example, Unrenderable
from services.trainer.data.rows import Turn
from services.trainer.data.training_templates import training_template
from services.trainer.settings import Supervision
from tests.tiny_model import TURN_END, TinyModel
from tests.unit.trainer.tiny import TEMPLATE

CONVERSATION = [
    Turn("user", "Who has the key?"),
    Turn("assistant", "I do."),
    Turn("user", "And the ladder?"),
    Turn("assistant", "You do."),
]
SHIPPED = files("trl") / "chat_templates"
# Templates for text whose training variant TRL ships, and whose history reads as it was said.
PLAIN = ["cohere", "gemma", "gemma3", "llama3", "qwen2_5", "qwen3_instruct_2507", "smolvlm"]


def loaded(base: Path, template: str) -> ChatEncoder:
    tokenizer = ChatEncoder.load(base).tokenizer
    tokenizer.chat_template = template
    return ChatEncoder(tokenizer, training_template(tokenizer))


def parts(encoder: ChatEncoder, example: Example) -> tuple[str, str]:
    kept = [token for token, counts in zip(example.tokens, example.supervised, strict=True) if counts]
    return str(encoder.tokenizer.decode(example.tokens)), str(encoder.tokenizer.decode(kept))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("supervision", Supervision)
def test_marks_of_trl_and_rendering_find_the_same(base: Path, name: str, supervision: Supervision) -> None:
    encoder = loaded(base, (SHIPPED / f"{name}.jinja").read_text())
    assert encoder._marked is not None
    rendering = ChatEncoder(encoder.tokenizer)
    found = encoder.encode(CONVERSATION, supervision)
    assert parts(encoder, found) == parts(encoder, rendering.encode(CONVERSATION, supervision))
    assert encoder.encode(CONVERSATION, said_from=3) == rendering.encode(CONVERSATION, said_from=3)


@pytest.mark.parametrize("name", ["", *PLAIN])
def test_an_answer_of_weight_0_is_not_learned_however_answers_are_found(base: Path, name: str) -> None:
    encoder = loaded(base, (SHIPPED / f"{name}.jinja").read_text() if name else TEMPLATE)
    silent = [turn if index != 1 else replace(turn, learned=False) for index, turn in enumerate(CONVERSATION)]
    whole, one = encoder.encode(CONVERSATION), encoder.encode(silent)
    assert one.tokens == whole.tokens
    assert "I do." not in parts(encoder, one)[1]
    # The other answer is learned as it was, and of everything all but the silent one.
    assert parts(encoder, one)[1] == parts(encoder, encoder.encode(CONVERSATION, said_from=3))[1]
    everything = encoder.encode(silent, Supervision.ALL)
    assert "I do." not in parts(encoder, everything)[1]
    assert everything.supervised_tokens > one.supervised_tokens


def test_answers_that_marks_do_not_tell_apart_are_found_by_rendering(base: Path) -> None:
    # It marks each answer twice.
    twice = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    twice += "{% endgeneration %}{% generation %}${% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    twice += "{% if add_generation_prompt %}[assistant]{% endif %}"
    encoder = loaded(base, twice)
    silent = [turn if index != 1 else replace(turn, learned=False) for index, turn in enumerate(CONVERSATION)]
    assert parts(encoder, encoder.encode(silent))[1] == "You do.$"


def test_marks_are_right_where_a_longer_conversation_is_no_continuation(base: Path) -> None:
    encoder = loaded(base, (SHIPPED / "phi3.jinja").read_text())
    # It ends a conversation, and not a turn, with the base's own mark.
    assert parts(encoder, encoder.encode(CONVERSATION))[1] == "I do.<|end|>You do.<|end|><|im_end|>"


def test_a_template_that_trl_does_not_know_has_no_marks_and_one_with_marks_of_its_own_keeps_them(base: Path) -> None:
    assert loaded(base, TEMPLATE)._marked is None
    own = "{% for m in messages %}[{{ m.role }}]{% if m.role == 'assistant' %}{% generation %}{{ m.content }}$"
    own += "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    encoder = loaded(base, own)
    assert parts(encoder, encoder.encode(CONVERSATION))[1] == "I do.$You do.$"


@pytest.mark.parametrize(
    "template", ["{{ messages[9].role }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{% generation %}"]
)
def test_whatever_a_template_fails_with_is_a_refusal_of_the_row(base: Path, template: str) -> None:
    with pytest.raises(Unrenderable):
        loaded(base, template).encode(CONVERSATION)


@pytest.mark.parametrize(
    ("template", "ends"),
    [
        (TEMPLATE, ["<|im_end|>"]),
        (TEMPLATE.replace("<|im_end|>", TURN_END), [TURN_END]),
        # As phi3: the conversation's end behind that of the turn.
        (
            TEMPLATE.replace("<|im_end|>\n'", f"{TURN_END}'")
            + "{% if not add_generation_prompt %}<|im_end|>{% endif %}",
            None,
        ),
        # Words are none, and what a mark is written in front of neither.
        (TEMPLATE.replace("<|im_end|>", "The end."), []),
        (TEMPLATE.replace("message['content']", f"'{TURN_END}' + message['content']"), ["<|im_end|>"]),
        # It is never learned that a turn ends so.
        (
            "{% for m in messages %}[{{ m.role }}]{% generation %}{{ m.content }}{% endgeneration %}<|im_end|>{% endfor %}",
            [],
        ),
        ("{{ raise_exception('no') }}", []),
    ],
)
def test_a_turn_ends_with_the_marks_that_are_learned_behind_an_answer(
    tmp_path: Path, template: str, ends: list[str] | None
) -> None:
    encoder = ChatEncoder.load(TinyModel(template=template, marks=(TURN_END,)).write(tmp_path))
    # A word that the tokenizer was given as a whole is a word.
    encoder.tokenizer.add_tokens(["The end."])
    found = encoder.tokenizer.convert_ids_to_tokens(list(encoder.turn_ends()))
    assert sorted(found) == sorted(["<|im_end|>", TURN_END] if ends is None else ends)
