"""Questions with the documents that answer them, as files of JSON Lines hold them: one reader for all who take them."""

import json
from pathlib import Path

import typer


def pairs_of(path: Path) -> list[tuple[str, list[str]]]:
    """Each question with its documents, in the file's order; empty lines count for nothing.

    A line is {"question": "...", "documents": ["leave.md"]}, or "document" with one id; no documents are those of a
    question that none answers.  Raises typer.BadParameter that names the first line that is none.
    """
    return [
        _pair(line, number)
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1)
        if line.strip()
    ]


def _pair(line: str, number: int) -> tuple[str, list[str]]:
    try:
        read = json.loads(line)
        question, documents = read["question"], read.get("documents", read.get("document"))
        documents = [documents] if isinstance(documents, str) else documents
        if isinstance(question, str) and isinstance(documents, list) and all(isinstance(it, str) for it in documents):
            return question, documents
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    problem = 'is not {"question": "...", "documents": ["..."]}'
    raise typer.BadParameter(f"line {number} {problem}", param_hint="QUESTIONS")
