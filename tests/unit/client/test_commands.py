"""What the documents and the help say of the command line is what it takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from trivium_client.cli.main import app

from services.ops.cache import CHECKOUT

REFERENCE = CHECKOUT / "clients" / "python" / "README.md"
DOCUMENTS = (CHECKOUT / "README.md", REFERENCE, CHECKOUT / "protos" / "README.md")
# Those of the suite, which the client alone does not have.
OF_THE_SUITE = {"up", "down", "status", "doctor", "logs", "backup", "restore", "train-encoder"}
# How the files end that a line may name.
ENDINGS = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".md"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command by the words that lead to it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def groups(group: Any) -> Iterator[Any]:
    """The groups of commands, itself among them."""
    yield group
    for inner in group.commands.values():
        if hasattr(inner, "commands"):
            yield from groups(inner)


GROUPS: list[Any] = list(groups(typer.main.get_command(app)))
COMMANDS: dict[tuple[str, ...], Any] = dict(commands(typer.main.get_command(app)))


def example_of(command: Any) -> str:
    found = re.search(r"Example: (trivium .+)", command.help)
    return found[1] if found else ""


def shown() -> list[str]:
    """The lines that the documents show, without their comments, and the examples of the help."""
    lines = [
        line
        for document in DOCUMENTS
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
        for line in block.splitlines()
        if line.startswith("trivium ") and line.split()[1] not in OF_THE_SUITE
    ]
    return [*lines, *filter(None, map(example_of, [*COMMANDS.values(), *GROUPS]))]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_the_help_of_a_group_has_an_example_of_one_of_its_commands(group: Any) -> None:
    assert group.name in example_of(group)


@pytest.mark.parametrize("line", shown())
def test_a_line_that_is_shown_is_one_that_the_command_line_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # What a line reads must be there.
    for folder in ("handbook", "services/ops/demo/handbook"):
        (tmp_path / folder).mkdir(parents=True)
    _, *words = shlex.split(line, comments=True)
    for file in (tmp_path / word for word in words if Path(word).suffix in ENDINGS):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    if words[0] == "train" and Path(words[1]).is_file():
        # The one command that may be left out.
        words.insert(1, "run")
    length = next((length for length in (3, 2, 1) if tuple(words[:length]) in COMMANDS), 0)
    assert length, f"no command begins like: {line}"
    command = COMMANDS[tuple(words[:length])]
    # Parsed, and not run: what is unknown, missing or too much is refused here.
    command.make_context(command.name, words[length:])


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_stands_in_the_reference_and_its_help_has_an_example_of_it(words: tuple[str, ...]) -> None:
    section = REFERENCE.read_text().split("## Command line", 1)[1]
    # A line names a command, and behind `also:` others of its group; `;` begins another group.
    told = [
        set(re.findall(r"\w+", part))
        for line in section.splitlines()
        if line.startswith("trivium ")
        for part in line.split(";")
    ]
    inner = {group for *groups, _ in COMMANDS for group in groups[1:]}
    assert [part for part in told if set(words) <= part and part & inner <= set(words)], " ".join(words)
    assert example_of(COMMANDS[words]).startswith(f"trivium {' '.join(words)}")
