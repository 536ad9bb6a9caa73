"""A request to replay is what was sent, and what was found comes back in words."""

import json

import pytest
from trivium.common.v1 import chat_pb2, receipt_pb2
from trivium.gateway.v1 import replays_pb2
from trivium_client import replays
from trivium_client.cli import replaying
from trivium_client.cli.main import app
from typer.testing import CliRunner

from tests.harness.wording import missing

RECEIPT = receipt_pb2.Receipt(
    resolved_model="desk@7",
    base_digest="b",
    template_digest="t",
    prompt_tokens_digest="p",
    completion_digest="d",
    engine_build="e",
    sampling=chat_pb2.Sampling(temperature=0.5, seed=3, max_tokens=9),
)
TURNS = [{"role": "user", "content": "Where to?"}, {"role": "CHAT_ROLE_ASSISTANT", "content": "Out."}]


def test_a_chat_a_text_and_a_question_go_out_as_such_with_roles_in_short_or_whole():
    chat = replays.to_wire("r", {"messages": TURNS}, None, "")
    assert [turn.role for turn in chat.chat.messages] == [2, 3]
    assert not chat.HasField("answer")
    assert replays.to_wire("r", {"prompt": "Once"}, "", "").HasField("answer")
    several = replays.to_wire("r", {"prompts": [{"text": "Once"}, {"token_ids": {"ids": [1, 2]}}]}, None, "")
    assert [list(one.token_ids.ids) or one.text for one in several.complete.prompts] == ["Once", [1, 2]]
    fields = {"question": "And fog?", "collections": ["ferry"], "history": TURNS, "top_k": 2}
    asked = replays.to_wire("r", fields, "In fog", "What of fog?")
    assert (asked.ask.question, list(asked.ask.collections), len(asked.ask.history)) == ("And fog?", ["ferry"], 2)
    assert (asked.answer, asked.rewritten_question) == ("In fog", "What of fog?")


def test_a_request_that_is_stored_goes_out_by_its_id_alone():
    assert replays.to_wire("r", None, None, "") == replays_pb2.ReplayAnswerRequest(request_id="r")


@pytest.mark.parametrize(
    "request_",
    [{}, {"messages": TURNS, "prompt": "x"}, {"prompt": "x", "max_tokens": 3}, {"messages": [{"role": "ferry"}]}],
    ids=["of no kind", "of two kinds", "with a field that is none", "with a role that is none"],
)
def test_what_is_no_request_is_refused(request_):
    with pytest.raises(ValueError, match="replay"):
        replays.to_wire("r", request_, None, "")


def response(verdict):
    message = replays_pb2.ReplayAnswerResponse(verdict=verdict, explanation="why", receipt=RECEIPT)
    message.differences.add(position=1, start=4, rank=2, margin=0.5, made={"token": "a"}, rival={"token": "b"})
    message.differences.add(position=3)
    message.sources.add(span={"document": "d.md", "marker": 1}, found=False)
    for name, now in (("ferry", "v1"), ("rules", "v2"), ("gone", "")):
        message.collections.add(collection=name, version="v1", present_version=now)
    return message


def test_what_was_found_is_told_in_words():
    found = replays.of_wire(response(replays_pb2.REPLAY_VERDICT_WEIGHTS_GONE))
    assert (found.verdict, found.receipt.completion_digest, found.replayed) == ("weights_gone", "d", None)
    first, last = found.differences
    assert [token and token.token for token in (first.made, first.rival)] == ["a", "b"]
    assert (first.rank, first.margin) == (2, 0.5)
    assert (last.made, last.rival, last.rank, last.margin) == (None, None, None, None)


class Client:
    """Finds what it was told to."""

    verdict = replays_pb2.REPLAY_VERDICT_EXACT
    asked: tuple = ()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def replay(self, *asked, **options):
        type(self).asked = (*asked, options)
        return replays.of_wire(response(self.verdict))


@pytest.mark.parametrize(("verdict", "code"), [("EXACT", 0), ("EXPLAINED", 0), ("DIFFERENT", 1), ("UNDECIDED", 1)])
def test_the_command_ends_by_whether_the_answer_is_that_of_its_weights(tmp_path, monkeypatch, verdict, code):
    monkeypatch.setattr(replaying, "Trivium", Client)
    monkeypatch.setattr(Client, "verdict", replays_pb2.ReplayVerdict.Value(f"REPLAY_VERDICT_{verdict}"))
    request, answer = tmp_path / "request.json", tmp_path / "answer.md"
    request.write_text(json.dumps({"prompt": "Once"}))
    answer.write_text("upon a time\n\n")
    ended = CliRunner().invoke(app, ["replay", "r", "-r", str(request), "-a", str(answer)])
    assert ended.exit_code == code
    assert ended.stdout.startswith(f"{verdict.lower()}: why")
    assert ended.stdout.splitlines()[1:-4] == [
        "model     desk@7",
        "base      b",
        "template  t",
        "prompt    p",
        "tokens    d",
        "engine    e",
        "sampling  temperature 0.5, seed 3, at most 9 tokens",
    ]
    assert not missing(ended.stdout, "d.md 0-0", "gone")
    ferry, rules, gone = ended.stdout.splitlines()[-4:-1]
    assert missing(ferry, "ferry", "v1", "v2", "gone") == ["v2", "gone"]
    assert missing(rules, "rules", "v1", "v2", "gone") == ["gone"]
    assert missing(gone, "gone", "v1", "v2") == ["v2"]
    assert Client.asked == ("r", {"prompt": "Once"}, {"answer": "upon a time\n", "rewritten_question": ""})


def test_the_command_needs_no_file_for_what_is_stored(monkeypatch):
    monkeypatch.setattr(replaying, "Trivium", Client)
    monkeypatch.setattr(Client, "verdict", replays_pb2.REPLAY_VERDICT_EXACT)
    ended = CliRunner().invoke(app, ["replay", "resp_1"])
    assert ended.exit_code == 0
    assert Client.asked == ("resp_1", None, {"answer": None, "rewritten_question": ""})
