"""The public sets as documents with questions and what answers them; read from the folder of the data, nothing is kept."""

import csv
import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ORGANISATIONS = ("aventro-motors", "cendara-university", "velvera-technologies")
FORMATS = ("md", "html", "docx", "pdf")


@dataclass(frozen=True, slots=True)
class Source:
    """A document as a user would bring it: its id is also its file name; an empty title is found out."""

    document: str
    content: bytes
    title: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the documents that answer it."""

    text: str
    gold: frozenset[str]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents that are searched together, and what is asked of them."""

    name: str
    documents: tuple[Source, ...]
    questions: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """A set: its corpora, and how many words of a document the baseline takes as one passage (0: all)."""

    name: str
    corpora: tuple[Corpus, ...]
    passage_words: int = 0

    @property
    def questions(self) -> list[Asked]:
        """The questions of all corpora, in order."""
        return [it for corpus in self.corpora for it in corpus.questions]


def scifact(data: Path) -> JudgedSet:
    """Abstracts with their titles; the train questions."""
    folder = data / "ir-scifact"
    with gzip.open(folder / "corpus.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    documents = tuple(Source(f"{row['_id']}.txt", row["text"].encode(), row["title"]) for row in rows)
    with (folder / "queries.train.jsonl").open() as lines:
        texts = {row["_id"]: row["text"] for row in map(json.loads, lines)}
    gold: dict[str, set[str]] = {}
    with (folder / "qrels" / "train.tsv").open() as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if int(row["score"]) > 0:
                gold.setdefault(row["query-id"], set()).add(f"{row['corpus-id']}.txt")
    questions = tuple(Asked(texts[query], frozenset(found)) for query, found in gold.items())
    return JudgedSet("scifact_train", (Corpus("scifact", documents, questions),))


def cranfield(data: Path) -> JudgedSet:
    """Abstracts, whose text begins with the title; questions are numbered by position."""
    folder = data / "ir-cranfield"
    blocks = re.findall(r"<doc>(.*?)</doc>", (folder / "cran.all.1400.xml").read_text(), re.DOTALL)
    texts = {_field(block, "docno"): _field(block, "text") for block in blocks}
    # Two are empty, and nothing empty is stored.
    documents = tuple(Source(f"{number}.txt", text.encode()) for number, text in texts.items() if text)
    tops = re.findall(r"<top>(.*?)</top>", (folder / "cran.qry.xml").read_text(), re.DOTALL)
    gold: dict[int, set[str]] = {}
    for line in (folder / "cranqrel.trec.txt").read_text().splitlines():
        query, _, document, judged = line.split()
        if int(judged) > 0:
            gold.setdefault(int(query), set()).add(f"{document}.txt")
    questions = tuple(
        Asked(" ".join(_field(top, "title").split()), frozenset(gold.get(place, ())))
        for place, top in enumerate(tops, start=1)
    )
    return JudgedSet("cranfield", (Corpus("cranfield", documents, questions),))


def _field(block: str, name: str) -> str:
    match = re.search(rf"<{name}>(.*?)</{name}>", block, re.DOTALL)
    return match.group(1).strip() if match else ""


def xquad(data: Path) -> JudgedSet:
    """Paragraphs; the one relevant to a question is its own."""
    articles = json.loads((data / "qa-xquad-en" / "xquad.en.first32.json").read_text())["data"]
    documents, questions = [], []
    for number, paragraph in enumerate(it for article in articles for it in article["paragraphs"]):
        name = f"p{number}.txt"
        documents.append(Source(name, paragraph["context"].encode()))
        questions += [Asked(qa["question"], frozenset({name})) for qa in paragraph["qas"]]
    return JudgedSet("xquad", (Corpus("xquad", tuple(documents), tuple(questions)),))


def xquad_halves(data: Path) -> tuple[Corpus, Corpus]:
    """The articles in turn to two corpora, so that no article is in both."""
    articles = json.loads((data / "qa-xquad-en" / "xquad.en.first32.json").read_text())["data"]
    halves = []
    for half in range(2):
        documents, questions = [], []
        for number, paragraph in enumerate(it for article in articles[half::2] for it in article["paragraphs"]):
            name = f"p{number}.txt"
            documents.append(Source(name, paragraph["context"].encode()))
            questions += [Asked(qa["question"], frozenset({name})) for qa in paragraph["qas"]]
        halves.append(Corpus(f"xquad-{half}", tuple(documents), tuple(questions)))
    return halves[0], halves[1]


def multicorpus(data: Path, kind: str) -> JudgedSet:
    """The documents of three organisations in one format, an index each."""
    folder = data / "docs-rag-multi-corpus"
    return JudgedSet(f"multicorpus_{kind}", tuple(_organisation(folder, name, kind) for name in ORGANISATIONS), 180)


def _organisation(folder: Path, name: str, kind: str) -> Corpus:
    with tarfile.open(folder / f"{name}.tar.gz") as archive:
        documents = tuple(_members(archive, kind))
    stems = {it.document.rpartition(".")[0] for it in documents}
    gold: dict[str, set[str]] = {}
    for row in csv.DictReader(io.StringIO((folder / f"{name}.queries.csv").read_text())):
        facts = {fact["filename"].rpartition(".")[0] for fact in json.loads(row["Supporting Facts"])}
        # Rows that name a file which is missing by that name are dropped, as the known figures do.
        if facts <= stems:
            gold.setdefault(row["Query"], set()).update(f"{stem}.{kind}" for stem in facts)
    return Corpus(name, documents, tuple(Asked(text, frozenset(found)) for text, found in gold.items()))


def manual_and_reports(data: Path) -> tuple[Source, ...]:
    """The pages of a reference manual, then reports; nobody published questions about them."""
    found: list[Source] = []
    for archive, kind in (("docs-postgresql-17/html.tar.gz", "html"), ("docs-ntsb-pdf/ntsb-pdf.tar.gz", "pdf")):
        with tarfile.open(data / archive) as opened:
            found += _members(opened, kind)
    return tuple(found)


def _members(archive: tarfile.TarFile, kind: str) -> Iterator[Source]:
    for member in sorted(archive.getmembers(), key=lambda it: it.name):
        if member.isfile() and member.name.endswith(f".{kind}"):
            content = archive.extractfile(member)
            assert content is not None
            yield Source(Path(member.name).name, content.read())


SETS: dict[str, Callable[[Path], JudgedSet]] = {
    "scifact_train": scifact,
    "cranfield": cranfield,
    "xquad": xquad,
    **{f"multicorpus_{kind}": partial(multicorpus, kind=kind) for kind in FORMATS},
}
