"""A tenant trains an embedder from its own questions on the real services, and finds it in the registry.

The collection speaks of things by names that no model knows; questions ask in plain words.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from trivium_client import Trivium
from trivium_client.errors import NotFoundError

from services.chassis import models
from services.embedder import model
from services.ops.cache import CHECKOUT
from services.ops.tuning.conduct import Settings
from services.ops.tuning.mining import lessons, searched
from services.ops.tuning.passages import fetched
from services.ops.tuning.questions import Split, digest, gathered, split
from services.ops.tuning.recipe import Wish, followed
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.role import Role
from tests.own_encoders import Encoders
from tests.stack import Stack, eventually
from tests.tiny_encoder import build_encoder

NAMES = {
    "plimmer": "water pump", "zorvak": "fire alarm", "quaddle": "coffee machine", "brintle": "front door lock",
    "snorf": "parking garage", "velk": "swimming pool", "dravit": "meeting room", "yumsy": "lawn mower",
}  # fmt: skip
FACTS = {
    "cost": ("The {} costs 40 crowns a month.", "What is the price of the {}?"),
    "repair": ("Whoever finds the {} broken calls the janitor.", "Who repairs the {}?"),
    "colour": ("The {} was painted green in March.", "Which colour has the {}?"),
    "hours": ("The {} is out of use from ten at night.", "When may I not use the {}?"),
    "owner": ("The {} belongs to the residents together.", "Who owns the {}?"),
    "manual": ("Instructions for the {} hang beside it.", "Where do I read how the {} works?"),
}
LIMIT_SECONDS = 240


@dataclass(frozen=True)
class House:
    """A collection of house rules, its questions, and the way in."""

    client: Trivium
    collection: str
    environment: dict[str, str]
    questions: Path

    @property
    def pairs(self) -> list[tuple[str, list[str]]]:
        lines = map(json.loads, self.questions.read_text().splitlines())
        return [(line["question"], line["documents"]) for line in lines]

    @property
    def parts(self) -> Split:
        return split(gathered(self.pairs), 0.3, share_documents=False)

    def command(self, *arguments: str) -> "subprocess.Popen[str]":
        called = [sys.executable, "-c", "from services.ops.cli import app; app()", "train-encoder", self.collection]
        return subprocess.Popen(
            [*called, str(self.questions), *arguments],
            cwd=CHECKOUT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip


@pytest.fixture(scope="module")
def house(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    services = Encoders(stack, folder / "services", {"TRIVIUM_EMBEDDING_MODEL": models.DEFAULT_EMBEDDING})
    key = stack.tenant_key(stack.tenant())
    addresses = {
        "access": stack.access.address, "registry": stack.registry.address, "embedder": services.embedder.address,
        "retriever": services.library.process.address,
    }  # fmt: skip
    named = {f"TRIVIUM_{name.upper()}_ADDRESS": address for name, address in addresses.items()}
    # A data folder of its own: nothing serves there, so that training need not give way to the test's own services.
    own = {"TRIVIUM_API_KEY": key, "TRIVIUM_DATA_DIR": str(folder / "data"), "TMPDIR": str(folder)}
    lines = []
    with Trivium(api_key=key, addresses=addresses) as client:
        client.collections.create("house")
        for name, plain in NAMES.items():
            for fact, (text, question) in FACTS.items():
                document = f"{name}-{fact}.txt"
                client.docs.add_text(text.format(name), collection="house", document=document)
                lines.append(json.dumps({"question": question.format(plain), "documents": [document]}))
        for _ in client.docs.watch("house"):
            pass
        questions = folder / "questions.jsonl"
        questions.write_text("\n".join(lines))
        yield House(client, "house", {**os.environ, **named, **own}, questions)
    services.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A base that trains in no time."""
    return f"file:{build_encoder(tmp_path_factory.mktemp('bases') / 'tiny')}"


def wish(house: House, **changes: object) -> Wish:
    settings = Settings(epochs=1, batch_size=8, learning_rate=1e-4, negatives=2, seed=0, threads=1)
    given = {"collection": house.collection, "pairs": house.pairs, "role": Role.EMBEDDER}
    base = {"base": models.DEFAULT_EMBEDDING}
    return Wish(settings=settings, **(given | base | changes))  # type: ignore[arg-type]  # as Wish says


def unheard(what: str, done: int, whole: int) -> None:
    """Nobody looks."""


def firsts(house: House) -> int:
    """How many held-out questions have a document that answers them first, by vectors alone."""
    found = 0
    for question in house.parts.held_out:
        hits = house.client.docs.search(question.text, collections=["house"], mode="dense", top_k=1).hits
        found += hits[0].span.document in question.documents
    return found


@pytest.mark.sampled(every=2, family="whole trainings")
def test_an_embedder_learns_the_words_of_the_house_and_serves_it_published_with_what_was_measured(
    house: House, tmp_path: Path
) -> None:
    before = firsts(house)
    running = house.command(
        "--model", "house-words", "--epochs", "3", "--learning-rate", "3e-4", "--threads", "1", "--json",
        "--out", str(tmp_path / "kept"),
    )  # fmt: skip
    out, err = running.communicate(timeout=LIMIT_SECONDS)
    assert running.returncode == 0, err
    # Nobody watches a terminal: what it is at stands in a line now and then.
    assert "trivium:" not in err
    assert "Traceback" not in err
    told = json.loads(out)
    assert told["passages"] == len(NAMES) * len(FACTS)
    assert told["better"]
    assert told["ndcg_at_10"]["trained"] > told["ndcg_at_10"]["base"] + 0.1

    version = house.client.models.version(told["version"], model="house-words")
    assert version.kind == "encoder"
    assert version.lineage_base_digest == models.resolve(models.DEFAULT_EMBEDDING).digest
    assert version.dataset_digest == digest(house.parts.training)
    assert version.dataset_rows == told["training_questions"] == len(house.parts.training)
    assert (version.config["collection"], version.config["epochs"]) == ("house", 3)
    assert "sentence-transformers" in version.libraries
    measured = {it.metric: it for it in version.evaluations}
    assert measured["ndcg_at_10"].value == pytest.approx(told["ndcg_at_10"]["trained"], abs=1e-4)
    assert measured["before_ndcg_at_10"].value == pytest.approx(told["ndcg_at_10"]["base"], abs=1e-4)
    assert measured["ndcg_at_10"].dataset_digest == digest(house.parts.held_out)

    house.client.models.download(told["version"], tmp_path / "back", model="house-words")
    read = model.described(models.resolve(f"file:{tmp_path / 'back'}"))
    assert (read.digest, read.max_tokens) == (version.base_digest, 256)
    kept = model.described(models.resolve(f"file:{tmp_path / 'kept'}"))
    assert kept == replace(read, name=kept.name)

    house.client.collections.reembed("house", "house-words@1")
    assert house.client.collections.reembedded("house").embedding_digest == version.base_digest
    assert firsts(house) > before + 2


def test_a_dry_run_judges_what_there_is_and_trains_nothing(house: House, tiny: str) -> None:
    # Of any two questions some other joins their documents: only shared do they stand on both sides.
    chained = [
        *house.pairs[:20],
        ("What of the house?", [document for _, each in house.pairs[:20] for document in each]),
    ]
    with pytest.raises(Untrainable, match="--share-documents"):
        followed(house.client, wish(house, base=tiny, pairs=chained), unheard)
    told = followed(house.client, wish(house, base=tiny, pairs=chained, share_documents=True), unheard)
    assert [it.name for it in told.before] == ["base"]
    assert len(told.split.training) + len(told.split.held_out) == 21
    assert (told.comparison, told.version) == (None, None)


@pytest.mark.sampled(every=2, family="whole trainings")
def test_what_is_not_better_is_published_when_that_is_asked_for_and_what_is_killed_never(
    house: House, tiny: str
) -> None:
    # Side by side: most of a short training is to import what trains.
    ordering = house.command(
        "--model", "house-order", "--role", "reranker", "--base", tiny, "--epochs", "0.2", "--threads", "1",
        "--publish-anyway",
    )  # fmt: skip
    killed = house.command("--model", "unfinished", "--base", tiny, "--epochs", "5000", "--threads", "1")

    out, err = ordering.communicate(timeout=LIMIT_SECONDS)
    assert ordering.returncode == 0, err
    assert all(name in out for name in ("search", "search, reranked", "trained", "Not better"))
    assert "--rerank-model house-order@1" in out
    assert house.client.models.version("1", model="house-order").role == "reranker"
    with pytest.raises(Untrainable, match=r"house-order@1.* reranker"):
        followed(house.client, wish(house, model="house-order"), unheard)

    scratch = Path(house.environment["TMPDIR"])
    try:
        eventually(lambda: any(scratch.glob("trivium-tuning-*/trainer")), "it trains", seconds=LIMIT_SECONDS)
        assert killed.poll() is None
    finally:
        killed.kill()
        killed.communicate()
    with pytest.raises(NotFoundError):
        house.client.models.get("unfinished")


def test_documents_that_are_not_there_are_named_with_what_to_do(house: House) -> None:
    pairs = [*house.pairs, ("Where is the cellar?", ["cellar.txt"])]
    with pytest.raises(Untrainable, match=r"\bcellar\.txt\b.* trivium docs list -c house"):
        followed(house.client, wish(house, pairs=pairs), unheard)


def test_passages_that_others_alone_may_read_are_not_learned(house: House) -> None:
    house.client.collections.create("closed")
    house.client.docs.add_text("The vault opens at noon.", collection="closed", document="v.txt", readers=["board"])
    for _ in house.client.docs.watch("closed"):
        pass
    with pytest.raises(Untrainable, match=r"closed.* read"):
        followed(house.client, wish(house, collection="closed"), unheard)


def test_a_collection_without_documents_or_that_is_not_there_is_told(house: House) -> None:
    house.client.collections.create("empty")
    with pytest.raises(Untrainable, match="empty"):
        followed(house.client, wish(house, collection="empty"), unheard)
    with pytest.raises(NotFoundError):
        followed(house.client, wish(house, collection="nowhere"), unheard)


def test_what_is_taught_as_wrong_is_what_the_search_finds_elsewhere(house: House) -> None:
    library = fetched(house.client, "house", unheard)
    assert len(library.passages) == len(NAMES) * len(FACTS)
    questions = gathered([*house.pairs[:4], ("What of the plimmer?", [f"plimmer-{fact}.txt" for fact in FACTS])])
    found = searched(house.client, "house", questions, unheard)
    taught = lessons(house.client, found, library, 3)
    assert [it.question for it in taught].count("What of the plimmer?") == len(FACTS)
    texts = {passage.text: passage.document for passage in library.passages}
    for lesson in taught:
        documents = next(it.documents for it in questions if it.text == lesson.question)
        assert texts[lesson.positive] in documents
        assert len(set(lesson.negatives)) == 3
        assert not {texts[it] for it in lesson.negatives} & documents
        ranked = next([it.text for it in each.passages] for each in found if each.question.text == lesson.question)
        likeliest = [text for text in ranked if texts[text] not in documents]
        assert list(lesson.negatives) == [*likeliest, *lesson.negatives[len(likeliest) :]][:3]
