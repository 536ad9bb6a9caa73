"""Tools and calls in rows: what is read of them, what no request could have, and that training renders what serving does."""

import io
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from services.generator import conversation
from services.generator.tokenizer import BaseTokenizer
from services.generator.tools import Tool as Offer
from services.generator.tools import ToolUse
from services.trainer.data import checking, reading
from services.trainer.data.encoding import encode, sides
from services.trainer.data.examples import ChatEncoder, Example, Unrenderable
from services.trainer.data.inspection import inspect, said_in
from services.trainer.data.report import Asked
from services.trainer.data.rows import AnyRow, Judgement, Preference, Problem, Row, identity
from services.trainer.data.tools import MOST_TOOLS
from services.trainer.data.training_templates import training_template
from services.trainer.settings import Supervision
from tests.tiny_model import TEMPLATE, TOOL_TEMPLATE, TinyModel

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time", "strict": True}}


def call(id_: str = "call_1", name: str = "weather", arguments: object = '{"city": "Zürich"}') -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


ASKED = {"role": "user", "content": "Is it raining?"}
CALLS = {"role": "assistant", "content": None, "tool_calls": [call(), call("call_2", "time", "")]}
RESULTS = [{"role": "tool", "content": said, "tool_call_id": f"call_{n}"} for n, said in ((1, "Rain."), (2, "Six."))]
ANSWER = {"role": "assistant", "content": "It rains, at six."}
ROW: dict[str, Any] = {"messages": [ASKED, CALLS, *RESULTS, ANSWER], "tools": [WEATHER, TIME]}


def read(**fields: Any) -> AnyRow | Problem:
    (found,) = reading.read(io.BytesIO(json.dumps(fields).encode()))
    return found


def row(**fields: Any) -> Row:
    found = read(**fields)
    assert isinstance(found, Row), found
    return found


def test_a_row_in_openais_format_has_its_tools_its_calls_and_their_results() -> None:
    found = row(**ROW)
    assert [tool.shown["function"]["name"] for tool in found.tools] == ["weather", "time"]
    assert found.tools[1].shown["function"]["parameters"] == {"type": "object", "properties": {}}
    assert found.turns[1].message == {
        "role": "assistant",
        "content": "",
        "tool_calls": [call(arguments={"city": "Zürich"}), call("call_2", "time", {})],
    }
    assert [turn.message.get("tool_call_id") for turn in found.turns] == [None, None, "call_1", "call_2", None]
    # Arguments as an object, as other files have them, are the same.
    written = {**CALLS, "tool_calls": [call(arguments={"city": "Zürich"}), call("call_2", "time", None)]}
    assert row(messages=[ASKED, written, *RESULTS, ANSWER], tools=[WEATHER, TIME]) == found


def test_a_row_may_end_with_its_call_and_what_it_calls_is_what_it_says() -> None:
    found = row(messages=[ASKED, CALLS], tools=[WEATHER, TIME], parallel_tool_calls=True)
    assert said_in(found) == 'Is it raining?\nweather {"city": "Zürich"}\ntime {}'
    other = row(messages=[ASKED, {**CALLS, "tool_calls": [call(arguments='{"city": "Bern"}')]}], tools=[WEATHER, TIME])
    assert identity(found) != identity(other)


@pytest.mark.parametrize("nothing", [None, "", {}, "{}", " { } "])
def test_a_tool_that_takes_nothing_is_shown_as_one_however_that_is_written(nothing: object) -> None:
    bare = {"type": "function", "function": {"name": "time", "parameters": nothing}}
    assert row(messages=[ASKED, ANSWER], tools=[bare]) == row(messages=[ASKED, ANSWER], tools=[TIME])


def test_what_a_request_just_takes_is_taken() -> None:
    most = {"description": "x" * 16384, "parameters": {"a": "x" * (65536 - 9)}}
    tool = {"type": "function", "function": {"name": "weather", **most}}
    calls = [call(f"c{n}", arguments={"a": "x" * (65536 - 9)} if n == 0 else "") for n in range(128)]
    found = row(messages=[ASKED, {"role": "assistant", "tool_calls": calls}], tools=[tool])
    assert len(found.tools[0].parameters) == len(found.turns[1].calls[0].arguments) == 65536


@pytest.mark.parametrize("nothing", [None, [], "[]", "null"])
def test_tools_that_are_none_ask_nothing(nothing: object) -> None:
    assert row(messages=[ASKED, ANSWER], tools=nothing).tools == ()


def changed(**changes: Any) -> dict[str, Any]:
    """The row with another call."""
    given = {**call(), **{name: value for name, value in changes.items() if name in ("id", "type", "function")}}
    return {**ROW, "messages": [ASKED, {**CALLS, "tool_calls": [given]}, ANSWER]}


FUNCTION = {"name": "weather", "arguments": "{}"}
# With what stands around it in `{"a": …}` nine bytes over what a request takes.
LONG = "x" * 65536


@pytest.mark.parametrize(
    ("fields", "place", "says"),
    [
        (changed(id=""), "messages[1].tool_calls[0].id", "1 to 128"),
        (changed(id=7), "messages[1].tool_calls[0].id", "a number"),
        (changed(type="custom"), "messages[1].tool_calls[0]", "a call is {"),
        (changed(function=None), "messages[1].tool_calls[0]", "a call is {"),
        (changed(function={**FUNCTION, "name": "look"}), "messages[1].tool_calls[0].function.name", '"look" is none'),
        (changed(function={**FUNCTION, "name": ["a"]}), "messages[1].tool_calls[0].function.name", "a list is none"),
        (changed(function={**FUNCTION, "arguments": "{"}), "messages[1].tool_calls[0].function.arguments", "no JSON"),
        (changed(function={**FUNCTION, "arguments": "[1]"}), "messages[1].tool_calls[0].function.arguments", "a list"),
        (changed(function={**FUNCTION, "arguments": 1}), "messages[1].tool_calls[0].function.arguments", "a number"),
        (
            changed(function={**FUNCTION, "arguments": r'{"a": "\ud800"}'}),
            "messages[1].tool_calls[0].function.arguments",
            "half a character",
        ),
        ({**ROW, "tools": []}, "messages[1].tool_calls[0].function.name", "add it to tools"),
        ({**ROW, "tools": {"a": 1}}, "tools", "an object"),
        ({**ROW, "tools": "{"}, "tools", "no JSON"),
        ({**ROW, "tools": [{**WEATHER, "type": "custom"}]}, "tools[0]", "a tool is {"),
        ({**ROW, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name", "letters"),
        (
            {**ROW, "tools": [WEATHER, {"type": "function", "function": {"name": "t", "description": 1}}]},
            "tools[1].function.description",
            "a number",
        ),
        (
            {**ROW, "tools": [{"type": "function", "function": {"name": "t", "parameters": [1]}}]},
            "tools[0].function.parameters",
            "a list",
        ),
        (
            {**ROW, "tools": [WEATHER, {"type": "function", "function": {"name": "t", "description": "ü" * 8193}}]},
            "tools[1].function.description",
            "16386 bytes, at most 16384",
        ),
        (
            {**ROW, "tools": [WEATHER, {"type": "function", "function": {"name": "t", "parameters": {"a": LONG}}}]},
            "tools[1].function.parameters",
            "65545 bytes, at most 65536",
        ),
        (
            changed(function={**FUNCTION, "arguments": {"a": LONG}}),
            "messages[1].tool_calls[0].function.arguments",
            "65545 bytes, at most 65536",
        ),
        (
            {**ROW, "messages": [ASKED, {**CALLS, "tool_calls": [call(f"c{n}") for n in range(129)]}]},
            "messages[1].tool_calls",
            "129 calls, at most 128",
        ),
        ({**ROW, "tools": [WEATHER, WEATHER]}, "tools[1].function.name", "two of them are named weather"),
        ({**ROW, "tools": [TIME] * (MOST_TOOLS + 1)}, "tools", "at most 128"),
        ({**ROW, "parallel_tool_calls": False}, "messages[1].tool_calls", "2 calls"),
        ({**ROW, "parallel_tool_calls": 1}, "parallel_tool_calls", "a number"),
        ({**ROW, "functions": [{"name": "weather"}]}, "functions", "the older form"),
        (
            {**ROW, "messages": [{**ASKED, "tool_calls": [call()]}, ANSWER]},
            "messages[0].tool_calls",
            "only the assistant",
        ),
        ({**ROW, "messages": [{**ASKED, "tool_call_id": "a"}, ANSWER]}, "messages[0].tool_call_id", "only a tool's"),
        ({**ROW, "messages": [ASKED, RESULTS[0], ANSWER]}, "messages[1].tool_call_id", '"call_1"'),
        (
            {**ROW, "messages": [ASKED, CALLS, {"role": "tool", "content": "Rain."}, ANSWER]},
            "messages[2].tool_call_id",
            "missing",
        ),
        ({**ROW, "messages": [ASKED, {**CALLS, "weight": 0}]}, "messages", "the weight 0"),
        ({**ROW, "messages": [ASKED, {"role": "assistant", "content": None}]}, "messages[1].content", "missing"),
    ],
)
def test_what_no_request_could_have_is_told_by_its_place(fields: dict[str, Any], place: str, says: str) -> None:
    found = read(**fields)
    assert isinstance(found, Problem)
    assert (found.field, says in found.message) == (place, True), found


def test_pairs_and_judgements_have_tools_too_and_neither_answer_hears_of_the_others_calls() -> None:
    pair = read(
        input={"messages": [ASKED], "tools": [WEATHER, TIME]},
        preferred_output=[CALLS, *RESULTS, ANSWER],
        non_preferred_output=[ANSWER],
    )
    assert isinstance(pair, Preference)
    assert (len(pair.tools), [len(turn.calls) for turn in pair.chosen]) == (2, [2, 0, 0, 0])
    crossed = read(
        input={"messages": [ASKED], "tools": [WEATHER, TIME]},
        preferred_output=[CALLS],
        non_preferred_output=[RESULTS[0], ANSWER],
    )
    assert isinstance(crossed, Problem)
    assert crossed.field == "non_preferred_output[0].tool_call_id"
    judged = read(prompt=[ASKED], completion=[CALLS], label=True, tools=[WEATHER, TIME])
    assert isinstance(judged, Judgement)
    assert len(judged.tools) == 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel(template=TOOL_TEMPLATE).write(tmp_path_factory.mktemp("tools"))


def loaded(folder: Path, template: str) -> ChatEncoder:
    tokenizer = ChatEncoder.load(folder).tokenizer
    tokenizer.chat_template = template
    return ChatEncoder(tokenizer, training_template(tokenizer))


def texts(encoder: ChatEncoder, example: Example) -> tuple[str, str]:
    kept = [token for token, counts in zip(example.tokens, example.supervised, strict=True) if counts]
    return str(encoder.tokenizer.decode(example.tokens)), str(encoder.tokenizer.decode(kept))


SHIPPED = files("trl") / "chat_templates"
ALL = Supervision.ALL


def test_calls_and_answers_are_learned_and_neither_tools_nor_results(folder: Path) -> None:
    encoder = ChatEncoder.load(folder)
    example = encode(row(**ROW), encoder)
    assert isinstance(example, Example)
    whole, learned = texts(encoder, example)
    weather, time = '{"name": "weather", "arguments": {"city": "Zürich"}}', '{"name": "time", "arguments": {}}'
    calls = "".join(f"<tool_call>\n{made}\n</tool_call>" for made in (weather, time))
    assert learned == f"{calls}<|im_end|>It rains, at six.<|im_end|>"
    assert "Tells it." in whole
    assert "Tells it." not in learned
    silent = encode(row(messages=[ASKED, {**CALLS, "weight": 0}, *RESULTS, ANSWER], tools=[WEATHER, TIME]), encoder)
    assert isinstance(silent, Example)
    assert texts(encoder, silent) == (whole, "It rains, at six.<|im_end|>")
    last = encode(row(**ROW), encoder, Supervision.LAST_ANSWER)
    assert isinstance(last, Example)
    assert texts(encoder, last)[1] == "It rains, at six.<|im_end|>"
    unsaid = encode(
        row(messages=[ASKED, {**CALLS, "weight": 0}, *RESULTS, ANSWER], tools=[WEATHER, TIME]), encoder, ALL
    )
    assert isinstance(unsaid, Example)
    assert texts(encoder, unsaid) == (whole, whole.replace(f"{calls}<|im_end|>", ""))


def served(folder: Path, template: str, found: Row, until: int) -> list[int]:
    """The tokens of the prompt that a generator makes of the row's turns before one."""
    tokenizer = BaseTokenizer(folder)
    tokenizer._template = tokenizer._tokenizer.chat_template = template
    turns = [
        conversation.Turn(
            turn.role,
            turn.content,
            tuple(conversation.Call(made.id, made.name, made.arguments) for made in turn.calls),
            turn.call_id,
        )
        for turn in found.turns[:until]
    ]
    offers = tuple(Offer(tool.name, tool.description, tool.parameters) for tool in found.tools)
    return tokenizer.chat(turns, ToolUse(offers).shown())


def asks_as_served(encoder: ChatEncoder, folder: Path, example: Example, found: Row, until: int) -> bool:
    """Whether the row's turn there is learned, from its first token on, behind what a generator would ask."""
    prompt = served(folder, encoder.tokenizer.chat_template, found, until)
    asked = list(example.tokens[: len(prompt)]) == prompt
    return asked and not example.supervised[len(prompt) - 1] and example.supervised[len(prompt)]


# Some write one call a turn alone.
SINGLE = {**CALLS, "tool_calls": [call()]}
CALLED = row(messages=[ASKED, SINGLE, RESULTS[0], ANSWER], tools=[WEATHER, TIME])
# As it writes an answer while it is the last one, so it never writes it again.
REWRITING = ["qwen3", "qwen3 with a remark"]


def shipped(name: str) -> str:
    template = (SHIPPED / f"{name.removesuffix(' with a remark')}.jinja").read_text() if name else TOOL_TEMPLATE
    return template + ("{#- Ours. -#}" if "remark" in name else "")


@pytest.mark.parametrize("name", ["", "qwen2_5", "qwen3_instruct_2507", "llama3_1", "llama3_2", *REWRITING])
def test_what_comes_before_an_answer_is_what_a_generator_would_ask(folder: Path, name: str) -> None:
    encoder = loaded(folder, shipped(name))
    for until in (1, 3):
        ended = replace(CALLED, turns=CALLED.turns[: until + 1])
        silent = tuple(replace(turn, learned=turn.role != "assistant") for turn in ended.turns[:-1])
        last = encode(ended, encoder, Supervision.LAST_ANSWER)
        assert isinstance(last, Example)
        assert asks_as_served(encoder, folder, last, CALLED, until)
        assert encode(replace(ended, turns=(*silent, ended.turns[-1])), encoder) == last
    pair = encode(Preference(1, CALLED.turns[:3], CALLED.turns[3:], CALLED.turns[3:], CALLED.tools), encoder)
    assert all(asks_as_served(encoder, folder, side, CALLED, 3) for side in sides(pair))


@pytest.mark.parametrize("name", ["", "qwen2_5", "qwen3_instruct_2507", "llama3_1", "llama3_2"])
def test_all_answers_of_a_row_are_learned_where_a_template_goes_on_from_what_it_wrote(folder: Path, name: str) -> None:
    encoder = loaded(folder, shipped(name))
    example = encode(CALLED, encoder)
    assert isinstance(example, Example)
    assert all(asks_as_served(encoder, folder, example, CALLED, until) for until in (1, 3))
    assert "weather" in texts(encoder, example)[1]


@pytest.mark.parametrize("name", REWRITING)
def test_a_row_whose_answers_are_written_otherwise_later_is_refused_with_what_to_do(folder: Path, name: str) -> None:
    encoder = loaded(folder, shipped(name))
    pair = Preference(1, CALLED.turns[:1], CALLED.turns[1:], CALLED.turns[1:], CALLED.tools)
    for found, supervision in ((CALLED, Supervision.ASSISTANT), (CALLED, ALL), (pair, ALL)):
        with pytest.raises(Unrenderable, match=r"\bmessage 2\b"):
            encode(found, encoder, supervision)
    # Without tools nothing of it is refused.
    assert sides(encode(row(messages=[ASKED, ANSWER, ASKED, ANSWER]), encoder))[0].supervised_tokens


# As Mistral's: the tools stand beside the last question, wherever that is.
BESIDE = (
    "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{% for m in messages %}"
    "{% if m.role == 'user' %}{% if tools and m == users[-1] %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]"
    "{% endif %}[INST]{{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS][{% for c in m.tool_calls %}"
    "{{ c.function | tojson }}{{ ', ' if not loop.last }}{% endfor %}]<|im_end|>{% elif m.role == 'tool' %}"
    "[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)


def test_tools_that_move_to_the_last_question_never_move_what_is_learned(folder: Path) -> None:
    encoder = loaded(folder, BESIDE)
    one = encode(CALLED, encoder)
    assert isinstance(one, Example)
    assert all(asks_as_served(encoder, folder, one, CALLED, until) for until in (1, 3))
    called = '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Zürich"}}]<|im_end|>'
    assert texts(encoder, one)[1] == f"{called}It rains, at six.<|im_end|>"
    later = [{"role": "user", "content": "And snow?"}, {"role": "assistant", "content": "None."}]
    two = row(messages=[ASKED, SINGLE, RESULTS[0], ANSWER, *later], tools=[WEATHER, TIME])
    with pytest.raises(Unrenderable, match=r"\bmessage 2\b"):
        encode(two, encoder)
    last = encode(two, encoder, Supervision.LAST_ANSWER)
    assert isinstance(last, Example)
    assert asks_as_served(encoder, folder, last, two, 5)
    assert texts(encoder, last)[1] == "None.<|im_end|>"


def test_a_template_that_asks_what_it_never_writes_is_refused_with_what_to_do(folder: Path) -> None:
    encoder = loaded(folder, TOOL_TEMPLATE.removesuffix("\n' }}{% endif %}") + "\n<think>' }}{% endif %}")
    with pytest.raises(Unrenderable):
        encode(CALLED, encoder, Supervision.LAST_ANSWER)


def test_a_template_without_tools_is_refused_by_name_with_what_to_do(folder: Path) -> None:
    encoder = loaded(folder, TEMPLATE)
    for found in (row(**ROW), replace(row(**ROW), tools=()), row(messages=[ASKED, ANSWER], tools=[TIME])):
        with pytest.raises(Unrenderable, match=r"\btools\b"):
            encode(found, encoder)
    # What has none is as it was.
    assert sides(encode(row(messages=[ASKED, ANSWER]), encoder))[0].supervised_tokens


def test_a_dataset_with_tools_is_taken_and_checked_for_the_base_that_is_named(folder: Path) -> None:
    content = json.dumps(ROW).encode()
    said: list[Problem] = []
    counted = checking.check(io.BytesIO(content), loaded(folder, TEMPLATE), None, said.append)
    assert isinstance(counted, checking.Counted)
    assert [(problem.fatal, "tools" in problem.message) for problem in said] == [(False, True)]
    assert counted.supervised_tokens
    refused: list[Problem] = []
    inspect(io.BytesIO(content), None, loaded(folder, TEMPLATE), Asked(), refused.append)
    assert refused[0].fatal
    taken: list[Problem] = []
    report = inspect(io.BytesIO(content), None, ChatEncoder.load(folder), Asked(), taken.append)
    assert (taken, report.rows, report.empty_completions) == ([], 1, 0)
