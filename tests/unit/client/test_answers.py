"""What is asked for goes onto the wire whole, and an answer is made of all of its parts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2
from trivium_client import AsyncTrivium, ServerError, answers_wire
from trivium_client.answers import Gathering, Sampling, Shape, Text, TokenLogprob
from trivium_client.transport import Transport


def test_every_field_of_the_sampling_reaches_the_wire() -> None:
    wanted = {
        "max_tokens": 3, "temperature": 1.0, "top_p": 0.5, "top_k": 4, "seed": 7, "stop": ("a",), "n": 2,
        "repetition_penalty": 2.0, "frequency_penalty": 1.0, "presence_penalty": 1.0, "min_p": 0.5, "min_tokens": 1,
        "ignore_eos": True, "stop_token_ids": (5,), "logit_bias": {6: 1.0}, "bad_words": ("b",),
        "allowed_token_ids": (8,), "include_stop_str_in_output": True, "skip_special_tokens": False, "logprobs": 0,
    }  # fmt: skip
    message = answers_wire.sampling_to_wire(Sampling(**wanted))  # type: ignore[arg-type]  # the types are Sampling's
    names = {field.name for field in chat_pb2.Sampling.DESCRIPTOR.fields}
    assert {field.name for field, _ in message.ListFields()} == names == set(wanted)
    assert (message.seed, message.logprobs, list(message.bad_words), dict(message.logit_bias)) == (
        7,
        0,
        ["b"],
        {6: 1.0},
    )


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (Shape(json_schema="{}"), "json_schema"),
        (Shape(json_object=True), "json_object"),
        (Shape(regex="a|b"), "regex"),
        (Shape(choices=("a", "b")), "choice"),
        (Shape(grammar='root ::= "a"'), "grammar"),
    ],
)
def test_each_shape_reaches_the_wire(shape: Shape, kind: str) -> None:
    message = answers_wire.shape_to_wire(shape, None)
    assert message is not None
    assert message.WhichOneof("constraint") == kind


def test_a_schema_alone_is_a_shape_and_nothing_is_none() -> None:
    assert answers_wire.shape_to_wire(None, "{}") == chat_pb2.StructuredOutput(json_schema="{}")
    assert answers_wire.shape_to_wire(None, None) is None


def test_a_shape_is_one_thing() -> None:
    with pytest.raises(ValueError, match="regex and grammar"):
        answers_wire.shape_to_wire(Shape(regex="a", grammar="b"), None)
    with pytest.raises(ValueError, match="none"):
        answers_wire.shape_to_wire(Shape(), None)
    with pytest.raises(ValueError, match="both"):
        answers_wire.shape_to_wire(Shape(regex="a"), "{}")


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [("Once", ["Once"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([[1], "b"], [[1], "b"])],
)
def test_a_prompt_is_a_text_its_tokens_or_several_of_either(prompt: Any, sent: list[Any]) -> None:
    request = gateway_pb2.CompleteRequest(**answers_wire.prompts_to_wire(prompt))
    told = [one.text or list(one.token_ids.ids) for one in request.prompts] or [request.prompt]
    assert told == sent


@pytest.mark.parametrize("prompt", [[], [1, "a"]])
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ValueError, match="token ids"):
        answers_wire.prompts_to_wire(prompt)


def part(text: str, choice: int, logprob: float) -> gateway_pb2.ChatResponse:
    rival = chat_pb2.TokenLogprob(token="x", token_id=2, logprob=-1.0)
    token = chat_pb2.TokenLogprob(token=text, token_id=1, logprob=logprob, top=[rival])
    return gateway_pb2.ChatResponse(delta=gateway_pb2.TextDelta(text=text, choice=choice, logprobs=[token]))


def test_several_answers_are_gathered_each_with_its_own_text_and_tokens() -> None:
    ends = [chat_pb2.ChoiceEnd(choice=number) for number in range(2)]
    final = gateway_pb2.ChatResponse(final=gateway_pb2.GenerationFinal(choices=ends))
    gathering = Gathering()
    for message in (part("a", 0, -0.5), part("b", 1, -0.25), part("c", 0, -0.125), final):
        gathering.add(answers_wire.part(message))
    answer = gathering.answer()
    assert answer.texts == ("ac", "b")
    assert [[(token.token, token.logprob) for token in tokens] for tokens in answer.logprobs] == [
        [("a", -0.5), ("c", -0.125)],
        [("b", -0.25)],
    ]
    assert answer.logprobs[1][0].top == (TokenLogprob("x", 2, -1.0),)


def test_an_answer_that_broke_off_is_none() -> None:
    gathering = Gathering()
    gathering.add(Text("half"))
    with pytest.raises(ServerError):
        gathering.answer()


async def test_one_collection_can_be_named_without_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[gateway_pb2.AskRequest] = []

    async def stream(
        self: object, service: str, call: object, request: gateway_pb2.AskRequest
    ) -> AsyncIterator[object]:
        sent.append(request)
        return
        yield

    monkeypatch.setattr(Transport, "stream", stream)
    async with AsyncTrivium(api_key="key", addresses={"gateway": "127.0.0.1:1"}) as client:
        for named in ("harbour", ["harbour", "town"]):
            assert not [part async for part in client.ask("Who pays?", collections=named)]
    assert [list(it.collections) for it in sent] == [["harbour"], ["harbour", "town"]]
