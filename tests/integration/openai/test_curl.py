"""What the README does by curl alone is run as it stands, and answers what the README shows.

It asks what a small base is sure of on every processor: "The capital of France is Paris" leads a beginning in French by a
tenth of a nat, and with other instructions for bfloat16 (AMX) the French is said.
"""

import os
import re
import subprocess

import pytest

from services.ops.cache import CHECKOUT
from services.ops.supervisor import Suite

SECONDS = 240
END = "-- the end of a block --"
LEFT_OUT = "…"


def section() -> str:
    """The part of the README that this is about."""
    found = re.search(r"^## With curl\n(.*?)^## ", (CHECKOUT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def blocks() -> list[tuple[str, str]]:
    """Its commands, and what it shows that they answer."""
    return re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", section(), re.DOTALL)


@pytest.fixture(scope="module")
def answers(suite: Suite) -> list[str]:
    """What each block answers when all of them are run by one shell."""
    program = f"\nprintf '\\n%s\\n' '{END}'\n".join(["set -e", *(commands for commands, _ in blocks()), ""])
    ran = subprocess.run(
        ["bash", "-c", program],
        cwd=CHECKOUT,
        env={**os.environ, "URL": f"{suite.http}/v1", "KEY": suite.api_key},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    return ran.stdout.split(END)[1:]


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
