"""A collection's index and its model, changed from the SDK and the command line, on a real Weaviate and two real models."""

import asyncio
import json

import pytest
from trivium_client import AsyncTrivium, NotFoundError, PreconditionError
from trivium_client.nouns import Reembedding

from tests.contract.retriever.desk import Desk
from tests.harness.wording import missing
from tests.library import Library

TEXT = "# Fares\n\nA single crossing costs {} crowns.\n"


def filled(library):
    desk = Desk(library)
    desk.client.collections.create(desk.collection)
    for number in range(6):
        desk.client.docs.add_text(TEXT.format(number), collection=desk.collection, document=f"d{number}.md")
    desk.settle()
    return desk


@pytest.fixture
def desk(two_models):
    made = filled(two_models)
    yield made
    made.client.close()


def places(desk):
    hits = desk.client.docs.search("a crossing of 3 crowns", collections=[desk.collection], top_k=20)
    return [(hit.span.document, hit.score) for hit in hits]


def test_an_index_moves_to_weaviate_and_back_by_command_and_is_searched_as_before(
    stack, tmp_path, embedder_address, weaviate
):
    environment = {**weaviate.environment, "TRIVIUM_RETRIEVER_INDEX": "embedded"}
    library = Library(stack, tmp_path / "library", embedder_address, environment)
    desk = filled(library)
    try:
        before = places(desk)
        for kind in ("weaviate", "embedded"):
            moved = desk.docs("reindex", desk.collection, "--to", kind, "--json")
            assert moved.returncode == 0, moved.stderr
            build = json.loads(moved.stdout)
            assert (build["index"], build["chunks_done"], build["chunks"], len(build["digest"])) == (kind, 6, 6, 64)
            assert desk.client.collections.get(desk.collection).index == kind
            assert places(desk) == before
        again = desk.docs("reindex", desk.collection)
        assert again.returncode == 0, again.stderr
        sentence = f"{desk.collection} is searched in its new index (embedded): 6 chunks.\ndigest {build['digest']}\n"
        assert again.stdout == sentence
    finally:
        desk.client.close()
        library.close()


def test_an_index_that_there_is_none_of_is_refused_in_words_and_one_that_is_not_set_with_what_to_set(desk):
    unknown = desk.docs("reindex", desk.collection, "--to", "pinecone")
    assert unknown.returncode == 2
    assert "embedded, weaviate" in " ".join(unknown.stderr.split())
    unset = desk.docs("reindex", desk.collection, "--to", "weaviate")
    assert unset.returncode == 4
    assert "TRIVIUM_RETRIEVER_WEAVIATE_URL" in unset.stderr
    with pytest.raises(PreconditionError):
        list(desk.client.collections.reindex(desk.collection, "weaviate"))
    with pytest.raises(ValueError, match=r"pinecone.* embedded, weaviate"):
        list(desk.client.collections.reindex(desk.collection, "pinecone"))


def test_a_collection_changes_its_model_by_command_and_back_in_the_sdk(desk):
    first = desk.client.collections.get(desk.collection)
    before = places(desk)
    changed = desk.docs("reembed", desk.collection, "other", "--json")
    assert changed.returncode == 0, changed.stderr
    other = json.loads(changed.stdout)
    assert other["embedding_digest"] not in ("", first.embedding_digest)
    assert other["reembedding"] is None
    assert places(desk) != before
    again = desk.docs("reembed", desk.collection, "other")
    assert not missing(again.stdout, desk.collection, other["embedding_digest"])
    heard: list[Reembedding] = []
    desk.client.collections.reembed(desk.collection, first.embedding_digest)
    found = desk.client.collections.reembedded(desk.collection, heard.append)
    assert (found.embedding_digest, found.reembedding) == (first.embedding_digest, None)
    assert all(change.documents == 6 and change.running for change in heard)
    assert places(desk) == before


def test_the_threshold_of_answers_goes_with_the_model_whose_scores_it_was_fitted_on_and_that_is_said(desk):
    first = desk.client.collections.update(desk.collection, answerable_threshold=0.25)
    assert first.former_answerable_threshold is None
    changed = desk.docs("reembed", desk.collection, "other")
    assert changed.returncode == 0, changed.stderr
    said = f"{desk.collection} said that the answer is there from 0.25 on"
    tuning = f"trivium docs tune {desk.collection} QUESTIONS --apply"
    for words in (said, tuning):
        assert words in changed.stderr
    found = desk.client.collections.get(desk.collection)
    assert (found.answerable_threshold, found.former_answerable_threshold) == (0.5, 0.25)
    asked = desk.client.docs.search("a crossing of 3 crowns", collections=[desk.collection])
    assert asked.answerability.threshold == 0.5
    shown = desk.docs("settings", desk.collection, "--json")
    assert json.loads(shown.stdout)["former_answerable_threshold"] == 0.25
    assert tuning in shown.stderr
    # Who changes something else has still to be told; whoever stores another threshold has not.
    assert tuning in desk.docs("settings", desk.collection, "--no-rerank").stderr
    stored = desk.docs("settings", desk.collection, "--threshold", "0.4", "--json")
    assert "former_answerable_threshold" not in json.loads(stored.stdout)
    assert stored.stderr == ""


def test_a_model_that_is_not_listed_is_named_and_a_change_can_be_cancelled_at_any_time(desk):
    refused = desk.docs("reembed", desk.collection, "absent")
    assert refused.returncode == 3
    assert "absent" in refused.stderr
    assert desk.docs("reembed", desk.collection, "other", "--cancel").returncode == 2
    first = desk.client.collections.get(desk.collection)
    cancelled = desk.docs("reembed", desk.collection, "--cancel")
    assert cancelled.returncode == 0, cancelled.stderr
    assert not missing(cancelled.stdout, desk.collection, first.embedding_digest)
    assert desk.client.collections.cancel_reembedding(desk.collection) == first


def test_the_asynchronous_sdk_does_the_same(desk):
    async def changed():
        async with AsyncTrivium(api_key=desk.key, addresses=desk.addresses) as client:
            builds = [build async for build in client.collections.reindex(desk.collection)]
            started = await client.collections.reembed(desk.collection, "other")
            wanted = started.reembedding.embedding_digest if started.reembedding else started.embedding_digest
            ended = await client.collections.reembedded(desk.collection)
            with pytest.raises(NotFoundError):
                await client.collections.reembed(desk.collection, "absent")
            return builds[-1].digest, wanted, ended.embedding_digest

    digest, wanted, serving = asyncio.run(changed())
    assert len(digest) == 64
    assert wanted == serving


def test_readers_are_named_when_documents_are_added_and_stay_when_they_are_not(two_models, tmp_path):
    desk = Desk(two_models)
    folder = tmp_path / "board"
    folder.mkdir()
    (folder / "a.md").write_text("# Board\n\nThe harbour is to be sold.\n")
    single = tmp_path / "b.md"
    single.write_text("# Board\n\nThe ferry is to be kept.\n")

    def added(*arguments):
        done = desk.run(folder, single, *arguments)
        assert done.returncode == 0, done.stderr
        return {name: document.readers for name, document in desk.documents().items()}

    def seen(*whom):
        found = desk.client.docs.search("board", collections=[desk.collection], as_readers=whom)
        return {hit.span.document for hit in found}

    try:
        assert added("--reader", "anna", "--reader", "board") == dict.fromkeys(("a.md", "b.md"), ("anna", "board"))
        assert seen("anna") == {"a.md", "b.md"}
        assert seen("ben") == set()
        single.write_text("# Board\n\nThe ferry is to be sold.\n")
        assert added() == dict.fromkeys(("a.md", "b.md"), ("anna", "board"))
        assert seen("ben") == set()
        assert added("--everybody") == {"a.md": (), "b.md": ()}
        assert seen("ben") == {"a.md", "b.md"}
    finally:
        desk.client.close()
