"""How a collection is searched where a request does not say, over the wire, in the SDK and on the command line."""

import json
import re

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium_client import PreconditionError, Trivium
from trivium_client.nouns import SearchSettings

from tests.contract.retriever.desk import ran_in_process
from tests.harness.wording import missing
from tests.library import Library
from tests.stack import eventually, refused

TEXT = "Smoked herring is served with mustard."


def update(reader, **fields):
    return reader.api.UpdateCollection(pb.UpdateCollectionRequest(collection=reader.collection, **fields)).collection


def test_what_an_update_does_not_name_stays_and_settings_are_replaced_whole(reader):
    settings = pb.SearchSettings(mode=pb.SEARCH_MODE_SPARSE, hyde=pb.HYDE_USE_OFF, rerank=True, dense_weight=0.5)
    assert update(reader, description="fish").search_settings == pb.SearchSettings(hyde=pb.HYDE_USE_OFF)
    changed = update(reader, search_settings=settings)
    assert (changed.description, changed.search_settings) == ("fish", settings)
    assert update(reader, description="").search_settings == settings
    shown = reader.api.GetCollection(pb.GetCollectionRequest(collection=reader.collection)).collection
    assert (shown.description, shown.search_settings) == ("", settings)


def test_a_search_follows_the_collection_where_it_states_nothing(reader):
    reader.add("a.txt", TEXT)
    update(reader, search_settings=pb.SearchSettings(mode=pb.SEARCH_MODE_SPARSE, rerank=True))
    answer = reader.answer("herring")
    assert answer.rerank.applied
    assert not answer.hits[0].HasField("dense_score")
    stated = reader.answer("herring", mode=pb.SEARCH_MODE_DENSE, rerank=False)
    assert stated.hits[0].HasField("dense_score")
    assert not stated.HasField("rerank")


def test_a_reranker_that_nobody_can_look_for_is_not_taken(stack, tmp_path):
    library = Library(stack, tmp_path / "library", "127.0.0.1:9")
    reader = library.newcomer()
    with refused("PEER_UNAVAILABLE"):
        update(reader, search_settings=pb.SearchSettings(rerank=True, rerank_model="sorter@1"))
    # What names none needs nobody.
    assert update(reader, search_settings=pb.SearchSettings(rerank=True)).search_settings.rerank_model == ""
    library.close()


@pytest.fixture(scope="module")
def alone(stack, tmp_path_factory, embedder_address):
    """A retriever whose generator is nowhere."""
    library = Library(
        stack, tmp_path_factory.mktemp("alone"), embedder_address, {"TRIVIUM_GENERATOR_ADDRESS": "127.0.0.1:9"}
    )
    yield library
    library.close()


def test_a_generator_that_is_away_costs_no_answer_and_is_named(alone):
    reader = alone.newcomer()
    reader.add("a.txt", TEXT)
    plain = reader.answer("What is herring served with?")
    assert not plain.expansions
    update(reader, search_settings=pb.SearchSettings(hyde=pb.HYDE_USE_ALWAYS, decompose=True))
    answer = reader.answer("What is herring served with?")
    assert [hit.chunk for hit in answer.hits] == [hit.chunk for hit in plain.hits]
    assert [(it.kind, it.applied) for it in answer.expansions] == [
        (pb.EXPANSION_KIND_HYDE, False),
        (pb.EXPANSION_KIND_DECOMPOSITION, False),
    ]
    assert all("generator" in it.reason for it in answer.expansions)


def test_where_there_is_no_generator_what_needs_one_is_refused_and_says_what_to_set(stack, tmp_path, embedder_address):
    library = Library(stack, tmp_path / "library", embedder_address, {"TRIVIUM_RETRIEVER_GENERATION": "false"})
    try:
        reader = library.newcomer()
        with refused("GENERATOR_NOT_SET"):
            update(reader, search_settings=pb.SearchSettings(hyde=pb.HYDE_USE_WEAK))
        with refused("GENERATOR_NOT_SET"):
            reader.search("herring", decompose=True)
        assert update(reader, search_settings=pb.SearchSettings(rerank=True)).search_settings.rerank
        key = stack.tenant_key(reader.tenant)
        with (
            Trivium(api_key=key, addresses={"retriever": library.process.address}) as client,
            pytest.raises(PreconditionError, match="TRIVIUM_RETRIEVER_GENERATION=true"),
        ):
            client.docs.search("herring", collections=[reader.collection], hyde="always")
    finally:
        library.close()


def test_the_sdk_and_the_command_line_change_what_they_name(library):
    key = library.stack.tenant_key(library.stack.tenant())
    address = library.process.address
    with Trivium(api_key=key, addresses={"retriever": address}) as client:
        client.collections.create("fish", "salt")
        wanted = SearchSettings(mode="dense", dense_weight=0.7, hyde="weak")
        assert client.collections.update("fish", search_settings=wanted).search_settings == wanted
        environment = {"TRIVIUM_API_KEY": key, "TRIVIUM_RETRIEVER_ADDRESS": address}
        asked = ("docs", "settings", "fish", "--mode", "", "--rerank", "--json")
        ran = ran_in_process(*asked, environment=environment)
        assert json.loads(ran.stdout)["rerank"] is True, ran.stderr
        found = client.collections.get("fish")
        assert (found.description, found.search_settings) == (
            "salt",
            SearchSettings(dense_weight=0.7, rerank=True, hyde="weak"),
        )


def test_a_collection_is_tuned_on_its_own_questions_from_the_command_line(alone, tmp_path):
    reader = alone.newcomer()
    for number in range(10):
        reader.put(f"{number}.txt", f"Barrel {number} holds herring of the year {1900 + number}.")
    reader.settled()
    lines = [{"question": f"What is in barrel {number}?", "documents": [f"{number}.txt"]} for number in range(10)]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("\n".join(map(json.dumps, lines)))
    environment = {
        "TRIVIUM_API_KEY": alone.stack.tenant_key(reader.tenant),
        "TRIVIUM_RETRIEVER_ADDRESS": alone.process.address,
    }

    def tune(*options):
        return ran_in_process("docs", "tune", reader.collection, questions, *options, environment=environment)

    ran = tune("--apply", "--json")
    report = json.loads(ran.stdout)
    trials = {it["trial"]: it for it in report["trials"]}
    assert trials["default"]["taken"]
    assert 0 < trials["default"]["ndcg"] <= 1
    assert trials["default"]["seconds"] > 0
    assert "generator" in trials["written passage always"]["note"]
    assert report["applied"]
    stored = reader.api.GetCollection(pb.GetCollectionRequest(collection=reader.collection)).collection.search_settings
    assert stored.rerank == report["search_settings"]["rerank"]
    questions.write_text('{"question": "What?"}')
    assert "line 1" in tune().stderr

    def said():
        """Without the frame that breaks sentences."""
        ran = tune()
        return ran.returncode, re.sub(r"[│\s]+", " ", ran.stderr)

    # As an editor of another system saves it: with a mark in front.
    questions.write_text("\n".join(map(json.dumps, lines[:3])), encoding="utf-8-sig")
    code, text = said()
    assert code == 2
    assert not missing(text, "3", "0", "10")
    lines[4]["documents"] = ["gone.txt"]
    questions.write_text("\n".join(map(json.dumps, lines)))
    code, text = said()
    assert code == 3
    assert not missing(text, "gone.txt", "What is in barrel 4")


def test_settings_show_what_the_collection_is_embedded_by_and_set_its_threshold(alone):
    reader = alone.newcomer()
    reader.add("a.txt", TEXT)
    environment = {
        "TRIVIUM_API_KEY": alone.stack.tenant_key(reader.tenant),
        "TRIVIUM_RETRIEVER_ADDRESS": alone.process.address,
    }

    def settings(*options):
        asked = ("docs", "settings", reader.collection, *options, "--json")
        return json.loads(ran_in_process(*asked, environment=environment).stdout)

    held = reader.api.GetCollection(pb.GetCollectionRequest(collection=reader.collection)).collection
    before = settings()
    assert (before["embedding_digest"], before["answerable_threshold"]) == (held.embedding_digest, 0.5)
    assert settings("--threshold", "0.25")["answerable_threshold"] == 0.25
    assert settings() == {**before, "answerable_threshold": 0.25}


def test_questions_that_wait_for_a_generator_are_told_of_and_cost_no_answer(alone):
    reader = alone.newcomer()
    reader.add("a.txt", TEXT)
    assert not update(reader, description="fish").HasField("questions")
    changed = update(reader, search_settings=pb.SearchSettings(questions_per_chunk=2))
    assert (changed.questions.chunks, changed.questions.chunks_done) == (1, 0)
    (outcome,) = reader.answer("What is herring served with?").expansions
    assert (outcome.kind, outcome.applied) == (pb.EXPANSION_KIND_QUESTION_VECTORS, False)
    request = pb.GetCollectionRequest(collection=reader.collection)
    eventually(lambda: "generator" in reader.api.GetCollection(request).collection.questions.reason, "it says why")
    assert reader.answer("What is herring served with?", question_vectors=False).hits
    key = alone.stack.tenant_key(reader.tenant)
    with Trivium(api_key=key, addresses={"retriever": alone.process.address}) as client:
        told = client.collections.get(reader.collection).questions
    assert told is not None
    assert (told.chunks, told.chunks_done, "generator" in told.reason) == (1, 0, True)
