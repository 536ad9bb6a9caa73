"""The limited child that compiles constraints from requests before the engine does; run as a program.

A schema, a pattern or a grammar is a program for a compiler: a few bytes can ask for
gigabytes or for hours.  This child lives from request to request (its imports take
seconds): it says in one JSON line that it has no problem and is ready, reads one a
constraint and answers with one.  Each constraint has a budget of processor time, after
which the system ends the child; its memory beyond what the vocabulary takes is bounded.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from services.chassis.child_side import confine, processor_time

CPU_SECONDS = 2.0
_MEMORY_BYTES = 2 << 30
MAX_CHOICES_BYTES = 65_536
_PLACE = re.compile(r"^\[[\d:]+\] \S+: ")


def compile_constraint(compiler: Any, xgrammar: Any, kind: str, text: str, choices: list[str]) -> None:
    """Compile as the engine will.  Raises whatever the compiler refuses with."""
    if kind == "json":
        json.loads(text)
        compiler.compile_json_schema(text, any_whitespace=False, separators=(",", ":"))
    elif kind == "regex":
        if "\0" in text:
            raise ValueError("a pattern holds no NUL")
        compiler.compile_regex(text)
    elif kind == "grammar":
        compiler.compile_grammar(text)
    elif kind == "structural_tag":
        compiler.compile_structural_tag(text)
    elif kind == "choice":
        if sum(len(choice.encode()) for choice in choices) > MAX_CHOICES_BYTES:
            raise ValueError(f"the choices have more than {MAX_CHOICES_BYTES} bytes together")
        alternatives = " | ".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
        compiler.compile_grammar(f"root ::= {alternatives}")


def _sentence(error: Exception) -> str:
    """The compiler's first line, without its clock and its source file."""
    first = str(error).strip().partition("\n")[0]
    return _PLACE.sub("", first)[:300] or type(error).__name__


def main() -> None:
    """Serve until standard input ends."""
    import xgrammar
    from transformers import AutoConfig, AutoTokenizer

    folder = sys.argv[1]
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    vocabulary = AutoConfig.from_pretrained(folder, local_files_only=True).vocab_size
    known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
    # Text, not memory of former constraints: each one is compiled from nothing.
    compiler = xgrammar.GrammarCompiler(known, max_threads=1, cache_enabled=False)
    confine(_MEMORY_BYTES)
    _say("")
    for line in sys.stdin:
        task = json.loads(line)
        problem = ""
        with processor_time(CPU_SECONDS):
            try:
                compile_constraint(compiler, xgrammar, task["kind"], task["text"], task["choices"])
            except (ValueError, RuntimeError, RecursionError, MemoryError, TypeError) as error:
                problem = f"it does not compile: {_sentence(error)}"
        _say(problem)


def _say(problem: str) -> None:
    sys.stdout.write(json.dumps({"problem": problem}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
