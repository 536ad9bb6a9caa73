"""Runs `trivium` against the suite, with the suite's addresses and key in its environment."""

from services.ops.supervisor import Suite
from tests.harness.command_line import Ran, run_in_process, run_on_terminal, run_process


def trivium(suite: Suite, *arguments: str, key: str | None = None, stdin: str = "") -> Ran:
    """Run the command against a suite, in this process and in the checkout; `key` replaces the suite's own."""
    return run_in_process(*arguments, environment=_environment(suite, key), stdin=stdin)


def trivium_process(suite: Suite, *arguments: str, key: str | None = None, stdin: str = "") -> Ran:
    """Run the command in a new process: once in each group of commands, and where a command follows a job."""
    return run_process(*arguments, environment=_environment(suite, key), stdin=stdin)


def on_a_terminal(suite: Suite, *arguments: str) -> tuple[int, str]:
    """Run the command where a person sees all that it prints; its exit code, and what was drawn, frame after frame."""
    return run_on_terminal(*arguments, environment=suite.environment)


def _environment(suite: Suite, key: str | None) -> dict[str, str]:
    return suite.environment if key is None else {**suite.environment, "TRIVIUM_API_KEY": key}
