"""What anybody has in an afternoon: BM25 and one MiniLM vector a passage, and two plain fusions of both.

The method is that of the known figures, with two differences: the stop words are scikit-learn's, and stems are
Porter's, by SQLite.  Each file scores as its best passage; formats are read by plain text extraction.
"""

import importlib
import io
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from services.retriever.search.fusion import RANK_CONSTANT
from tests.load.retriever.sets import Corpus, Source
from tests.load.retriever.vectors import Encoder

_K1, _B = 1.2, 0.75
_DEPTH = 100
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The scores of every document, by question, for each way."""

    bm25: list[Scores]
    minilm: list[Scores]
    rrf: list[Scores]
    convex: list[Scores]


def measured(corpus: Corpus, passage_words: int, encoder: Encoder) -> Baseline:
    """Both lists of a corpus, and their fusions."""
    passages = [(it.document, passage) for it in corpus.documents for passage in _passages(it, passage_words)]
    names = [name for name, _ in passages]
    texts = [text for _, text in passages]
    bm25 = [_by_file(zip(names, scores, strict=True)) for scores in _bm25(texts, [it.text for it in corpus.questions])]
    rows, asked = encoder.vectors(texts), encoder.vectors([it.text for it in corpus.questions])
    minilm = [_by_file(zip(names, map(float, scores), strict=True)) for scores in asked @ rows.T]
    # A document that shares no term with the question is not returned.
    bm25 = [{name: score for name, score in found.items() if score > 0} for found in bm25]
    pairs = [(_top(one), _top(other)) for one, other in zip(bm25, minilm, strict=True)]
    return Baseline(bm25, minilm, [_rrf(pair) for pair in pairs], [_convex(pair) for pair in pairs])


def _passages(source: Source, words: int) -> list[str]:
    text = f"{source.title}\n{_text(source)}" if source.title else _text(source)
    if not words:
        return [text]
    every = text.split()
    return [" ".join(every[first : first + words]) for first in range(0, len(every), words)] or [""]


def _text(source: Source) -> str:
    kind = source.document.rpartition(".")[2]
    if kind == "html":
        from selectolax.lexbor import LexborHTMLParser

        return LexborHTMLParser(source.content.decode()).text(separator=" ")
    if kind == "docx":
        import docx

        document = docx.Document(io.BytesIO(source.content))
        cells = [cell.text for table in document.tables for row in table.rows for cell in row.cells]
        return "\n".join([*(it.text for it in document.paragraphs), *cells])
    if kind == "pdf":
        pages = importlib.import_module("pypdfium2").PdfDocument(source.content)
        return "\n".join(page.get_textpage().get_text_range() for page in pages)
    return source.content.decode()


def _by_file(scores: Iterable[tuple[str, float]]) -> Scores:
    best: Scores = {}
    for name, score in scores:
        best[name] = max(score, best.get(name, -math.inf))
    return best


def _top(scores: Scores) -> Scores:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:_DEPTH])


def _rrf(pair: Sequence[Scores]) -> Scores:
    fused: Scores = {}
    for scores in pair:
        for rank, name in enumerate(scores, start=1):
            fused[name] = fused.get(name, 0.0) + 1 / (RANK_CONSTANT + rank)
    return fused


def _convex(pair: Sequence[Scores]) -> Scores:
    fused: Scores = {}
    for scores in pair:
        least, greatest = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        for name, score in scores.items():
            part = (score - least) / (greatest - least) if greatest > least else 1.0
            fused[name] = fused.get(name, 0.0) + part / 2
    return fused


def _bm25(texts: Sequence[str], questions: Sequence[str]) -> list[list[float]]:
    """Lucene's BM25 of every text for every question."""
    words = [_words(text) for text in texts]
    asked = [_words(text) for text in questions]
    stems = _stems({word for each in (*words, *asked) for word in each})
    counts = [Counter(stems[word] for word in each) for each in words]
    frequency = Counter(term for each in counts for term in each)
    lengths = np.array([sum(each.values()) for each in counts], dtype=float)
    norm = _K1 * (1 - _B + _B * lengths / (lengths.mean() or 1.0))
    postings: dict[str, dict[int, int]] = {}
    for number, each in enumerate(counts):
        for term, count in each.items():
            postings.setdefault(term, {})[number] = count
    found = []
    for question in asked:
        scores = np.zeros(len(texts))
        for term in {stems[word] for word in question}:
            idf = math.log(1 + (len(texts) - frequency[term] + 0.5) / (frequency[term] + 0.5))
            for number, count in postings.get(term, {}).items():
                scores[number] += idf * count / (count + norm[number])
        found.append(scores.tolist())
    return found


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ENGLISH_STOP_WORDS]


def _stems(words: set[str]) -> Mapping[str, str]:
    """Porter's stem of each word."""
    ordered = sorted(words)
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE words USING fts5(word, tokenize = \"porter unicode61 tokenchars '_'\")")
    connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, instance)")
    connection.executemany("INSERT INTO words (rowid, word) VALUES (?, ?)", enumerate(ordered, start=1))
    found = {ordered[number - 1]: term for term, number in connection.execute("SELECT term, doc FROM terms")}
    connection.close()
    return {word: found.get(word, word) for word in ordered}
