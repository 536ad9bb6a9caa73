"""What lint looks for line by line is found, and what is as it should be passes."""

import pytest

from services.ops.house_rules import breaches

# In two parts, so that lint does not find them here.
NOQA, IGNORE = "#" + " noqa", "#" + " type: ignore"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (f"x = 1  {NOQA}", "a suppressed check"),
        (f"x = 1  {NOQA}: S608, E501", "a suppressed check"),
        (f"x = 1  {IGNORE}", "a suppressed check"),
        (f"x = 1  {IGNORE}[attr-defined, misc] ", "a suppressed check"),
        ("image: registry/name:" + "latest", "an unpinned version"),
        ("cache = '/" + "home/somebody/cache'", "a path of one machine"),
        ("--index-" + "url https://packages.example/simple", "the address of a package index"),
    ],
)
def test_a_breach_is_named_with_its_place(line: str, rule: str) -> None:
    (found,) = breaches("a.py", f"first\n{line}\n")
    assert found.startswith(f"a.py:2: {rule}")


@pytest.mark.parametrize(
    "line",
    [
        f"x = 1  {NOQA}: S608  # the name is ours",
        f"x = 1  {NOQA}: B010 - a method of theirs",
        f"x = 1  {IGNORE}[attr-defined]  # absent from the stubs",
        f"A reason stands behind {NOQA} and {IGNORE} alike.",
        "image: registry/name:1.2",
    ],
)
def test_a_reason_a_version_and_prose_pass(line: str) -> None:
    assert breaches("a.py", line) == []


@pytest.mark.parametrize(
    "line", ["child.process.stdin.write(told)", "output, _ = await child.communicate(task.encode())"]
)
def test_a_service_tells_its_children_nothing_but_by_what_knows_that_they_end(line: str) -> None:
    (found,) = breaches("services/trainer/a.py", line)
    assert found.startswith("services/trainer/a.py:1: a write to a child")
    assert breaches("tests/unit/trainer/test_a.py", line) == []
    assert breaches("services/chassis/processes.py", line) == []
    assert breaches("services/trainer/a.py", "await child.communicate()") == []
