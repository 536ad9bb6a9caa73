"""Calls of tools: the form that a template writes them in, what forces one, and how they are read while they come."""

import json
import random
from pathlib import Path

import pytest
import trl
import xgrammar
from transformers import AutoTokenizer

from services.chassis.errors import Failure, Reason
from services.chassis.models import DEFAULT_BASE, resolve
from services.generator.calls import Reader, Readers
from services.generator.constraint_child import compile_constraint
from services.generator.conversation import Call, Turn, Unrenderable
from services.generator.engine import ConstraintKind, Finish, Piece
from services.generator.prompts import Prompts
from services.generator.template_child import environment, rendered
from services.generator.templates import ChatTemplates
from services.generator.tools import (
    CALLING,
    HERMES,
    LLAMA,
    MISTRAL,
    PROBE,
    SHOWING,
    Choice,
    Tool,
    ToolUse,
    form_of,
)
from tests.harness.plugin_sampling import offset
from tests.tiny_model import TEMPLATE, TOOL_TEMPLATE
from tests.unit.generator.answering import blocking
from tests.unit.generator.engines import MemoryEngine, hosted

SCHEMA = json.dumps({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
WEATHER = Tool("weather", "Tells the weather.", SCHEMA)
TIME = Tool("time")
TOOLS = ToolUse((WEATHER, TIME))
# What a list of models writes calls with; their templates are read where a library ships them.
PUBLISHED = {"qwen2_5": HERMES, "qwen3": HERMES, "llama3_1": LLAMA, "llama3_2": LLAMA}


def written(template, turns, tools):
    task = {
        "messages": [turn.message for turn in turns],
        "tools": tools or None,
        "special_tokens": {"bos_token": "<s>"},
    }
    return rendered(environment().from_string(template), task)


def found(template):
    return form_of(*(written(template, turns, PROBE.shown()) for turns in (SHOWING, CALLING)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_form_is_read_from_what_a_published_template_writes(name):
    template = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
    assert found(template) is PUBLISHED[name]


def test_a_list_behind_a_mark_is_a_form_too():
    template = (
        "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}"
        "{% if m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}]"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    assert found(template) is MISTRAL


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE,
        # Shows tools and takes no result, shows none, writes calls in a form of its own.
        "{{ tools | tojson }}{{ messages[1].tool_calls | tojson if messages | length > 1 }}",
        "{% for m in messages %}{{ (m.tool_calls or []) | tojson }}{{ m.content }}{% endfor %}",
        "{{ tools | tojson }}{% for m in messages %}{{ m.tool_calls[0].function.name if m.tool_calls }}!{{ m.content }}{% endfor %}",
    ],
)
def test_a_template_without_tools_or_with_an_unknown_form_has_none(template):
    assert found(template) is None


def test_the_tests_own_template_with_tools_is_of_the_first_form():
    assert found(TOOL_TEMPLATE) is HERMES


def told(form, text, *, step=1, names=("weather", "time"), inside=False):
    """Everything that a reader tells of a text that comes in pieces, calls put together."""
    reader = Reader(form, frozenset(names), lambda: "id", inside=inside)
    said = ""
    calls: dict[int, tuple[str, str]] = {}
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    for more, deltas in [*(reader.read(piece) for piece in pieces), reader.end()]:
        said += more
        for delta in deltas:
            name, arguments = calls.get(delta.index, ("", ""))
            calls[delta.index] = (name + delta.name, arguments + delta.arguments)
    return said, list(calls.values())


CITY = '{"city": "Zu\\"g", "near": [{"a": "}"}, 1]}'
HERMES_CALL = f'<tool_call>\n{{"name": "weather", "arguments": {CITY}}}\n</tool_call>'


@pytest.mark.parametrize("step", [1, 3, 1000])
@pytest.mark.parametrize(
    ("form", "text", "said", "calls"),
    [
        (HERMES, "Hello < there <tool", "Hello < there <tool", []),
        (HERMES, HERMES_CALL, "", [("weather", CITY)]),
        (HERMES, f"So.\n{HERMES_CALL}\n{HERMES_CALL}\n", "So.", [("weather", CITY)] * 2),
        (HERMES, '<tool_call>{"arguments": {}, "name": "time"}</tool_call>', "", [("time", "{}")]),
        (HERMES, '<tool_call>\n{"name": "time"}\n</tool_call>', "", [("time", "{}")]),
        (HERMES, '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("time", '{"a": 1}')]),
        (HERMES, '<tool_call>\n{"name": "other", "arguments": {}}\n</tool_call>', None, []),
        (HERMES, "<tool_call>\nno JSON\n</tool_call>", None, []),
        (HERMES, "<tool_call></tool_call>", None, []),
        (HERMES, '<tool_call>\n{"name": "weather", "argu', None, []),
        (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "Z', "", [("weather", '{"city": "Z')]),
        (HERMES, f"{HERMES_CALL[:-6]}", "", [("weather", CITY)]),
        (LLAMA, "Hello {", "Hello {", []),
        (LLAMA, f'{{"name": "weather", "parameters": {CITY}}}', "", [("weather", CITY)]),
        (
            LLAMA,
            f'<|python_tag|>{{"type": "function", "name": "weather", "parameters": {CITY}}}',
            "",
            [("weather", CITY)],
        ),
        (LLAMA, '{"name": "time", "parameters": {}}; {"name": "time", "parameters": {}}', "", [("time", "{}")] * 2),
        (LLAMA, '{"name": "Ada", "age": 36} is a person', None, []),
        (LLAMA, "<|python", None, []),
        (
            MISTRAL,
            f'[TOOL_CALLS] [{{"name": "weather", "arguments": {CITY}}}, {{"name": "time", "arguments": {{}}}}]',
            "",
            [("weather", CITY), ("time", "{}")],
        ),
        (MISTRAL, "A list [1, 2]", None, []),
    ],
)
def test_text_and_calls_are_told_apart_however_they_come(form, text, said, calls, step):
    assert told(form, text, step=step) == (text if said is None else said, calls)


def test_a_list_that_was_forced_begins_without_its_mark():
    assert told(MISTRAL, '[{"name":"time","arguments":{}}]', inside=True) == ("", [("time", "{}")])


def test_nothing_that_comes_is_lost_and_nothing_fails_whatever_a_model_writes():
    parts = [
        "<tool_call>",
        "</tool_call>",
        "{",
        "}",
        '"name"',
        ":",
        '"time"',
        '"arguments"',
        ",",
        "[",
        "]",
        "\\",
        "\n",
        "x",
    ]
    parts += ["[TOOL_CALLS]", "<|python_tag|>", '"parameters"']
    draw = random.Random(offset())
    for form in (HERMES, LLAMA, MISTRAL):
        for _ in range(400):
            text = "".join(draw.choice(parts) for _ in range(draw.randrange(16)))
            said, calls = told(form, text, names=("time",))
            if not calls:
                # White space alone, around what might have become a call, is no answer.
                assert said.split() == text.split(), text
            assert all(name == "time" for name, _ in calls), text


def test_the_end_of_an_answer_says_that_it_called_unless_it_was_cut():
    readers = Readers(HERMES, TOOLS, 2, lambda: "id")
    first = readers.read(Piece(HERMES_CALL, (1,), (), Finish.STOP, 0, None))
    cut = readers.read(Piece(HERMES_CALL, (1,), (), Finish.LENGTH, 0, None, choice=1))
    assert (first.finish, cut.finish) == (Finish.TOOL_CALLS, Finish.LENGTH)
    assert first.calls[0].id == "id"
    assert len(Readers(HERMES, TOOLS, 1).read(Piece(HERMES_CALL, (), (), None, 0, None)).calls[0].id) == 9


@pytest.mark.parametrize(
    ("form", "use", "kind"),
    [
        (HERMES, TOOLS, None),
        (HERMES, ToolUse(TOOLS.tools, single=True), ConstraintKind.STRUCTURAL_TAG),
        (HERMES, ToolUse(TOOLS.tools, Choice.REQUIRED), ConstraintKind.STRUCTURAL_TAG),
        (LLAMA, ToolUse((Tool("weather", "", SCHEMA, strict=True),)), ConstraintKind.STRUCTURAL_TAG),
        (MISTRAL, ToolUse(TOOLS.tools, Choice.NAMED, "time"), ConstraintKind.JSON_SCHEMA),
    ],
)
def test_an_engine_is_held_to_what_was_asked_and_to_nothing_else(form, use, kind):
    constraint = form.constraint(use)
    assert (constraint and constraint.kind) == kind


@pytest.fixture(scope="module")
def compiler():
    """What the engine compiles constraints with, for the default base."""
    folder = resolve(DEFAULT_BASE).path
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer))
    return xgrammar.GrammarCompiler(known, max_threads=1, cache_enabled=False)


@pytest.mark.parametrize("form", [HERMES, LLAMA])
@pytest.mark.parametrize(
    ("use", "free", "twice"),
    [
        (ToolUse((WEATHER, TIME), Choice.REQUIRED), False, True),
        (ToolUse((WEATHER, TIME), Choice.NAMED, "weather"), False, False),
        (ToolUse((WEATHER, TIME), single=True), True, False),
        (ToolUse((Tool("weather", "", SCHEMA, strict=True),)), True, True),
    ],
)
def test_the_engines_grammar_takes_the_calls_that_were_asked_for_and_no_others(compiler, form, use, free, twice):
    call = f'{form.opening}{{"name": "weather", "{form.arguments}": {{"city": "Zug"}}}}{form.closing}'
    constraint = form.constraint(use)
    compile_constraint(compiler, xgrammar, constraint.kind.value, constraint.text, [])
    grammar = compiler.compile_structural_tag(constraint.text)

    def takes(text):
        return xgrammar.GrammarMatcher(grammar).accept_string(text)

    between = "\n" if form.closing else "; "
    assert takes(call)
    assert takes(call + between + call) is twice
    assert takes("Hello there.") is free
    assert not takes(call.replace('"city": "Zug"', '"town": "Zug"'))
    assert not takes(call.replace('{"city"', '{     "city"'))


@pytest.mark.parametrize("use", [ToolUse(TOOLS.tools, single=True), ToolUse((Tool("t", strict=True),))])
def test_what_a_form_cannot_force_is_refused(use):
    with pytest.raises(Failure) as refused:
        MISTRAL.constraint(use)
    assert refused.value.reason is Reason.FIELD_INVALID


@pytest.mark.parametrize(
    ("use", "field"),
    [
        (ToolUse((TIME, TIME)), "tool_use.tools"),
        (ToolUse((TIME,), Choice.NAMED, "weather"), "tool_use.name"),
        (ToolUse((TIME, Tool("t", "", "[1]"))), "tool_use.tools[1].parameters"),
        (ToolUse((Tool("t", "", "{"),)), "tool_use.tools[0].parameters"),
    ],
)
def test_tools_that_make_no_sense_are_refused_where_they_stand(use, field):
    with pytest.raises(Failure) as refused:
        use.require_sound()
    assert refused.value.field == field


def test_arguments_of_an_earlier_call_are_shown_as_the_object_that_they_are():
    turn = Turn("assistant", "", (Call("a", "weather", '{"city": "Zug"}'),))
    assert turn.message["tool_calls"][0]["function"] == {"name": "weather", "arguments": {"city": "Zug"}}
    with pytest.raises(Unrenderable, match=r"call a\b"):
        _ = Turn("assistant", "", (Call("a", "weather", "[]"),)).message


async def test_tools_under_a_template_without_them_are_refused_and_so_are_their_results():
    host = hosted(MemoryEngine(), None, lambda *_: None)
    prompts = Prompts(ChatTemplates(), blocking)
    for turns, tools in [([Turn("user", "x")], TOOLS), ([Turn("user", "x"), Turn("tool", "y", call_id="a")], None)]:
        with pytest.raises(Failure) as refused:
            await prompts.tokens(turns, host, None, "t", tools)
        assert refused.value.reason is Reason.TOOLS_UNSUPPORTED
    none = ToolUse(TOOLS.tools, Choice.NONE)
    assert await prompts.tokens([Turn("user", "x")], host, None, "t", none) == [ord("x")]
