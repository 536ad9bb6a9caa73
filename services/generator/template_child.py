"""The limited child that renders conversations by one version's chat template; run as a program.

A template is a program in Jinja, and whoever uploads a version writes it.  The child takes the template in the first
JSON line, says in one line whether it compiles, then reads a conversation a line and answers each with one.  It holds
no file but its three pipes and can open none, its memory is bounded, and each rendering has a budget of processor
time, after which the system ends the child.  Jinja's sandbox keeps names with underscores and everything that changes
a value from the template; the limits hold for what a sandbox does not see.

It imports the standard library and Jinja alone: nothing of ours, nothing that knows a secret.
"""

from __future__ import annotations

import codecs
import json
import resource
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import jinja2.debug  # noqa: F401 - Jinja reads it when a template first fails, and by then no file can be opened
from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 0.5
MAX_CHARACTERS = 4 << 20
_MEMORY_BYTES = 512 << 20
# What a template can bring about in Python; a failure of another kind ends the child, which is a refusal too.
_FAILURES = (
    *(TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError),
    *(RecursionError, MemoryError, SyntaxError, OSError),
)


class Generation(Extension):
    """The block ``generation``, by which templates mark what the assistant says: its content, as it is."""

    tags = {"generation"}  # noqa: RUF012 - the interface of Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Read to the block's end."""
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as chat templates expect it: the whitespace rules, filter and functions that transformers gives them."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], cache_size=0
    )
    made.filters["tojson"] = _as_json
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = _now
    return made


def _as_json(value: object, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)


def _raise(message: object) -> None:
    raise TemplateError(str(message))


def rendered(template: Any, task: dict[str, Any]) -> str:
    """The prompt.  Raises what a template can bring about, ValueError when it is too long."""
    pieces: list[str] = []
    characters = 0
    given = {"messages": task["messages"], "tools": task["tools"], "documents": None, "add_generation_prompt": True}
    for piece in template.generate(**given, **task["special_tokens"]):
        characters += len(piece)
        if characters > MAX_CHARACTERS:
            raise ValueError(f"it makes more than {MAX_CHARACTERS} characters")
        pieces.append(piece)
    return "".join(pieces)


def warm_up(made: ImmutableSandboxedEnvironment) -> None:
    """Let Python and Jinja load what they load late: afterwards no file can be opened."""
    codecs.lookup("unicode_escape")
    text = "{% macro m(a) %}{{ a | tojson }}{{ a | upper | trim | replace('A', '\\u00e4') }}{% endmacro %}{{ m('a') }}"
    made.from_string(text + "{{ strftime_now('%Y-%m-%d %B') }}{{ messages | selectattr('role') | list }}").render()


def limit_this_process() -> None:
    """Bound memory; open no file, write none, start nothing."""
    for limit, value in (
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 3),
    ):
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """Serve until standard input ends."""
    made = environment()
    first = json.loads(sys.stdin.readline())
    warm_up(made)
    limit_this_process()
    template: Any = None
    with _Budget():
        try:
            template = made.from_string(first["template"])
            said = {"text": ""}
        except _FAILURES as error:
            said = {"problem": _sentence(error)}
    _say(said)
    for line in sys.stdin:
        with _Budget():
            try:
                said = {"text": rendered(template, json.loads(line))}
            except _FAILURES as error:
                said = {"problem": _sentence(error)}
        _say(said)


class _Budget:
    """Processor time for one task.  The default action of SIGPROF ends the process, also in native code."""

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _sentence(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__


def _say(said: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
