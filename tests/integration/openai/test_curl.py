"""What the README does by curl alone is run as it stands, and answers what the README shows.

It asks what a small base is sure of on every processor: "The capital of France is Paris" leads a beginning in French by a
tenth of a nat, and with other instructions for bfloat16 (AMX) the French is said.
"""

import re

import pytest

from tests.integration.openai.readme import blocks, section

LEFT_OUT = "…"


@pytest.mark.parametrize("number", range(len(blocks())))
def test_a_block_answers_what_is_shown_behind_it(answers: list[str], number: int) -> None:
    _, shown = blocks()[number]
    rest = answers[number]
    # A line that is broken for reading is one line of the answer.
    for piece in filter(None, (part.strip() for part in re.split(rf"{LEFT_OUT}|\n", shown))):
        _, found, rest = rest.partition(piece)
        assert found, f"{piece!r} is not in {answers[number]!r}, or not where it is shown"


def test_each_step_of_the_way_is_there() -> None:
    assert section().count("```sh") == len(blocks())
    commands = "".join(commands for commands, _ in blocks())
    for path in ("models", "chat/completions", "vector_stores", "files", "responses", "fine_tuning/jobs"):
        assert f"$URL/{path}" in commands
