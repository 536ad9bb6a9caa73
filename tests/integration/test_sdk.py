"""The SDK and the command line on the real engine: forced shapes, log probabilities, continuations, what is loaded."""

import json
from collections.abc import Iterator
from math import exp
from pathlib import Path

import pytest
from trivium_client import InvalidRequestError, Trivium
from trivium_client.answers import Message, Sampling, Shape

from services.ops.supervisor import Suite
from tests.harness.wording import missing
from tests.integration.command_line import trivium
from tests.integration.gateway.stock import Served, serve_adapter

ASKED = [Message("user", "Is a ferry a boat?")]


@pytest.fixture(scope="module")
def adapter(suite: Suite) -> Served:
    """A served adapter."""
    return serve_adapter(suite, "sdk-voice", seed=10)


@pytest.fixture
def client(suite: Suite) -> Iterator[Trivium]:
    with suite.client() as opened:
        yield opened


def test_an_answer_has_the_shape_that_was_asked_for_also_under_an_adapter(client: Trivium, adapter: Served) -> None:
    for model in ("base", adapter.model):
        answer = client.reply(ASKED, model=model, shape=Shape(choices=("quite so", "not at all")))
        assert answer.text in {"quite so", "not at all"}
    schema = json.dumps({"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]})
    assert json.loads(client.reply(ASKED, json_schema=schema).text) == {"n": 7}
    with pytest.raises(InvalidRequestError):
        client.reply(ASKED, shape=Shape(json_schema="{"))


def test_log_probabilities_are_told_of_the_tokens_of_each_answer(client: Trivium) -> None:
    sampling = Sampling(max_tokens=4, n=2, temperature=1.0, seed=3, logprobs=2)
    answer = client.reply(ASKED, sampling=sampling)
    assert len(answer.logprobs) == len(answer.texts) == 2
    for tokens, end in zip(answer.logprobs, answer.final.choices, strict=True):
        assert len(tokens) == end.completion_tokens
        assert all(0 < exp(token.logprob) < 1.001 and len(token.top) == 2 for token in tokens)
    assert client.reply(ASKED, sampling=Sampling(max_tokens=1)).logprobs == ()


def test_a_text_is_continued_without_a_template(client: Trivium) -> None:
    whole = client.continuation("One, two, three,", sampling=Sampling(max_tokens=4))
    parts = list(client.complete("One, two, three,", sampling=Sampling(max_tokens=4)))
    assert whole.text == "".join(getattr(part, "text", "") for part in parts)
    templated = client.reply([Message("user", "One, two, three,")], sampling=Sampling(max_tokens=1))
    assert whole.final.usage.prompt_tokens < templated.final.usage.prompt_tokens


def test_the_command_line_forces_a_shape_and_takes_one_alone(suite: Suite, tmp_path: Path) -> None:
    chosen = trivium(suite, "chat", "Is a ferry a boat?", "--choice", "quite so", "--choice", "not at all")
    assert chosen.out in {"quite so\n", "not at all\n"}, chosen.err
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps({"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}))
    forced = trivium(suite, "ask", "Which number?", "--schema", str(schema), "--json")
    assert json.loads(forced.json["text"]) == {"n": 7}
    both = trivium(suite, "chat", "Hi", "--regex", "a", "--choice", "b")
    assert (both.code, "--choice" in both.err, "--regex" in both.err) == (2, True, True)


def test_an_adapter_is_loaded_ahead_of_its_requests_and_let_go(suite: Suite, adapter: Served) -> None:
    loaded = trivium(suite, "models", "load", adapter.model)
    assert not missing(loaded.out, adapter.model, adapter.version, "slot"), loaded.err
    assert not missing(trivium(suite, "models", "protect", adapter.model).out, adapter.model, "slot")
    kept = trivium(suite, "models", "unload", adapter.model)
    ended = ("models", "protect", adapter.model, "--end")
    assert (kept.code, kept.out) == (4, "")
    assert f"`trivium {' '.join(ended)}`" in kept.err
    resident = trivium(suite, "models", "resident", "--json").json["adapters"]
    assert [held["version"] for held in resident if held["pinned"]] == [adapter.version]
    assert trivium(suite, *ended).code == 0
    assert trivium(suite, "models", "unload", adapter.model).out == f"Unloaded {adapter.model}.\n"
    assert trivium(suite, "models", "load", f"{adapter.model}@77").code == 3


def test_a_dataset_of_a_measurement_is_named_by_its_id(suite: Suite, adapter: Served, tmp_path: Path) -> None:
    rows = tmp_path / "held-out.jsonl"
    rows.write_text(json.dumps({"prompt": "measured", "completion": "on"}) + "\n")
    dataset = trivium(suite, "data", "add", str(rows), "--name", "held-out", "--json").json
    said = trivium(suite, "models", "evaluate", adapter.model, "accuracy", "0.5", "--dataset", dataset["dataset"])
    assert not missing(said.out, adapter.model, "accuracy 0.5", dataset["digest"]), said.err
    found = trivium(suite, "models", "search", "--metric", "accuracy", "--dataset", dataset["dataset"], "--json").json
    assert [item["version"] for item in found] == [adapter.version]
    assert trivium(suite, "models", "evaluate", adapter.model, "accuracy", "1", "--dataset", "no-such").code == 3
