import io
import json

import pytest

from services.trainer.data import reading
from services.trainer.data.records import MAX_RECORD_BYTES
from services.trainer.data.rows import (
    MAX_TURNS,
    AnyRow,
    Format,
    Judgement,
    Labelled,
    Preference,
    Problem,
    Row,
    Text,
    Turn,
    identity,
)

ANSWER = {"role": "assistant", "content": "Ada."}
GOOD = json.dumps({"prompt": "Who?", "completion": "Me."}).encode()


def read(lines: list[bytes], expected: Format | None = None) -> list[AnyRow | Problem]:
    return list(reading.read(io.BytesIO(b"\n".join(line.removesuffix(b"\n") for line in lines)), expected))


def row(**fields: object) -> AnyRow:
    (found,) = read([json.dumps(fields).encode()])
    assert not isinstance(found, Problem), found
    return found


def wrong(**fields: object) -> Problem:
    return problem(json.dumps(fields).encode())


def problem(line: bytes) -> Problem:
    (found,) = read([line])
    assert isinstance(found, Problem)
    return found


def test_messages_become_turns() -> None:
    line = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]}
    assert list(read([json.dumps(line).encode()])) == [Row(1, (Turn("user", "Who?"), Turn("assistant", "Me.")))]


def test_a_prompt_and_a_completion_are_a_question_and_an_answer() -> None:
    assert list(read([GOOD])) == [Row(1, (Turn("user", "Who?"), Turn("assistant", "Me.")))]


def test_prompt_and_completion_may_be_lists_of_messages() -> None:
    line = {
        "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
        "completion": [{"role": "assistant", "content": "Me."}],
    }
    (found,) = read([json.dumps(line).encode()])
    assert isinstance(found, Row)
    assert [turn.role for turn in found.turns] == ["system", "user", "assistant"]


def test_blank_lines_are_passed_over_and_still_counted() -> None:
    assert [found.line for found in read([b"\n", GOOD, b"  \n", GOOD])] == [2, 4]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"prompt": "a", ', "not JSON at column"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1, 2]", "a JSON object is needed, this is a list"),
        (b'{"question": "a"}', "its fields are: question"),
        (b'{"question": "a", "answer": "b"}', "rename question to prompt and answer to completion, or add a context"),
        (b'{"input": "a", "reply": "b"}', "rename what is asked to prompt and what is answered to completion"),
        # What is said of a row travels in messages that hold no half characters.
        (rb'{"\ud800": "a"}', "its fields are: ?"),
        (b'{"prompt": "a"}', 'no "completion"'),
        (b'{"prompt": "", "completion": "b"}', "empty"),
        (b'{"messages": []}', "an empty list"),
        (b'{"messages": [{"role": "robot", "content": "a"}]}', "must be one of system, user, assistant, tool"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "must be text, this is a number"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "nothing to learn"),
        (b'{"prompt": "a", "chosen": "b"}', 'no "rejected"; a pair needs both'),
        (b'{"completion": "a"}', 'no "prompt"'),
        (b'{"text": 3}', "a text is needed, this is a number"),
        (b'{"text": " "}', "the text is empty"),
        (b'{"prompt": "a", "completion": "b", "label": 1}', "must be true or false, this is a number"),
        (b'{"text": "a", "label": ""}', "empty"),
        (b'{"text": "a", "output": 3}', "the output must be an object"),
        (b'{"question": "a", "answer": "b", "context": [1]}', "a text or a list of texts"),
        (b'{"chosen": "yes", "rejected": "no"}', 'do not share a beginning to answer to; add a "prompt"'),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "begin with what it answers to"),
        (rb'{"prompt": "a\udc00", "completion": "b"}', r"\udc00 is half a character"),
        (b'{"prompt": "a", "completion": "b", "tools": [{"type": "function"}]}', "a tool is {"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c", "functions": "[{}]"}', "the older form; write tools"),
    ],
)
def test_a_malformed_line_is_named_with_what_to_do(line: bytes, says: str) -> None:
    assert says in problem(line).message


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tool_calls", {"type": "function", "function": {"name": "look"}}, "a list of calls is needed"),
        ("function_call", {"name": "look", "arguments": "{}"}, "the older form; write tool_calls"),
        ("weight", 0.5, "is 1, or 0 for one that is not learned"),
        ("weight", True, "is 1, or 0 for one that is not learned"),
        ("weight", [1], "is 1, or 0 for one that is not learned"),
    ],
)
@pytest.mark.parametrize("content", ["I look.", "", None])
def test_what_a_message_does_beside_saying_something_is_never_lost_unsaid(
    name: str, value: object, says: str, content: str | None
) -> None:
    answer = {"role": "assistant", "content": content, name: value}
    turns = [{"role": "user", "content": "Who?"}, answer, {"role": "tool", "content": "Ada"}, ANSWER]
    found = wrong(messages=turns)
    assert (found.field, says in found.message) == (f"messages[1].{name}", True)
    assert wrong(prompt="Who?", completion=[answer]).field == f"completion[0].{name}"


def test_an_answer_of_weight_0_is_read_and_not_learned() -> None:
    turns = [{"role": "user", "content": "Who?"}, {**ANSWER, "weight": 0}, {"role": "user", "content": "And?"}, ANSWER]
    found = row(messages=turns)
    assert isinstance(found, Row)
    assert [turn.learned for turn in found.turns] == [True, False, True, True]
    nothing = wrong(messages=[turns[0], turns[1]])
    assert "every answer has the weight 0" in nothing.message


def test_contents_in_parts_and_the_developers_role_are_read_as_openai_writes_them() -> None:
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    found = row(messages=[{"role": "developer", "content": parts}, {"role": "user", "content": "Who?"}, ANSWER])
    assert isinstance(found, Row)
    assert found.turns[0] == Turn("system", "Be brief.")
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    refused = wrong(messages=[{"role": "user", "content": image}, ANSWER])
    assert (refused.field, "those of text are read" in refused.message) == ("messages[0].content[0]", True)


PAIR: dict[str, object] = {
    "input": {"messages": [{"role": "user", "content": "Who?"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{"role": "assistant", "content": "Nobody."}],
}


def test_a_pair_in_openais_shape_is_a_pair() -> None:
    assert row(**PAIR) == Preference(
        1, (Turn("user", "Who?"),), (Turn("assistant", "Ada."),), (Turn("assistant", "Nobody."),)
    )


@pytest.mark.parametrize(
    ("changed", "field", "says"),
    [
        ({"input": None}, "input", "an object"),
        ({"input": {"messages": []}}, "input.messages", "an empty list"),
        ({"input": {"messages": [{"role": "user", "content": "a"}], "tools": [{}]}}, "input.tools[0]", "a tool is"),
        ({"tools": [{"type": "function", "function": {"name": "look"}}]}, "tools", "has its tools in input"),
        ({"preferred_output": []}, "preferred_output", "an empty list"),
        ({"non_preferred_output": [{"role": "user", "content": "a"}]}, "non_preferred_output", "nothing to learn"),
        ({"non_preferred_output": [{**ANSWER, "weight": 0}]}, "non_preferred_output", "the weight 0"),
    ],
)
def test_a_fault_in_a_pair_of_openais_shape_names_its_part(changed: dict[str, object], field: str, says: str) -> None:
    found = wrong(**{**PAIR, **changed})
    assert (found.field, says in found.message) == (field, True)


@pytest.mark.parametrize("part", list(PAIR))
def test_a_part_that_a_pair_of_openais_shape_lacks_is_named(part: str) -> None:
    found = wrong(**{name: value for name, value in PAIR.items() if name != part})
    assert found.field == part


def test_what_files_say_where_there_is_nothing_to_lose_is_passed_over() -> None:
    asked = {"role": "user", "content": "Who?", "weight": 0, "tool_calls": None}
    answer: dict[str, object] = {**ANSWER, "weight": 1, "tool_calls": [], "function_call": None}
    nothing: tuple[object, ...] = (None, [], "[]", " ")
    for empty in nothing:
        assert isinstance(row(messages=[asked, answer], tools=empty), Row)
    # Records say themselves what their fields are.
    assert isinstance(row(text="a", label="b", tools=["saw"]), Labelled)


def test_a_row_has_as_many_turns_as_may_be_and_no_more() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * (MAX_TURNS // 2)
    assert isinstance(row(messages=turns), Row)
    assert "at most 512" in problem(json.dumps({"messages": turns[:1] + turns}).encode()).message


def test_a_line_that_is_too_long_is_one_problem_and_the_lines_behind_it_keep_their_numbers() -> None:
    longest = b'{"prompt": "a", "completion": "' + b"b" * (MAX_RECORD_BYTES - 33) + b'"}'
    assert len(longest) == MAX_RECORD_BYTES
    content = b"\n".join([GOOD, longest, longest + b" ", b" " * (5 * MAX_RECORD_BYTES), GOOD])
    found = list(reading.read(io.BytesIO(content)))
    assert [(type(row), row.line) for row in found] == [(Row, 1), (Row, 2), (Problem, 3), (Problem, 4), (Row, 5)]


def test_a_fault_inside_a_message_names_the_message() -> None:
    line = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}
    assert problem(json.dumps(line).encode()).field == "messages[1].content"


def test_a_conversation_ends_with_the_assistant() -> None:
    line = {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}
    assert "end with the assistant" in problem(json.dumps(line).encode()).message


def test_one_file_holds_one_format() -> None:
    other = b'{"messages": [{"role": "assistant", "content": "a"}]}'
    first, second = read([GOOD, other])
    assert isinstance(first, Row)
    assert isinstance(second, Problem)
    assert second.line == 2


def test_a_line_that_is_not_of_the_announced_format_is_a_problem() -> None:
    (found,) = read([GOOD], Format.CHAT)
    assert isinstance(found, Problem)


def test_a_good_line_after_a_bad_one_is_still_read() -> None:
    kinds = [type(found) for found in read([GOOD, b"nonsense", GOOD])]
    assert kinds == [Row, Problem, Row]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


ASKED = (Turn("user", "Who?"),)
ME, YOU = (Turn("assistant", "Me."),), (Turn("assistant", "You."),)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "Who?", "chosen": "Me.", "rejected": "You."},
        {"prompt": [user("Who?")], "chosen": [assistant("Me.")], "rejected": [assistant("You.")]},
        {"chosen": [user("Who?"), assistant("Me.")], "rejected": [user("Who?"), assistant("You.")]},
        {"chosen": "Who? Me.", "rejected": "Who? You."},
        # The prompt once by itself and again in front of both answers, as some public sets have it.
        {
            "prompt": [user("Who?")],
            "chosen": [user("Who?"), assistant("Me.")],
            "rejected": [user("Who?"), assistant("You.")],
        },
    ],
)
def test_a_pair_is_a_prompt_and_two_answers_however_it_is_written(fields: dict[str, object]) -> None:
    assert row(**fields) == Preference(1, ASKED, ME, YOU)


def test_a_pair_whose_answers_are_the_same_is_still_a_row() -> None:
    both = [user("Who?"), assistant("Me.")]
    assert row(chosen=both, rejected=both) == Preference(1, ASKED, ME, ME)


def test_answers_that_begin_alike_are_cut_from_the_prompt_between_words() -> None:
    found = row(chosen="Who has it? Greta.", rejected="Who has it? Grace.")
    assert isinstance(found, Preference)
    assert (found.prompt[0].content, found.chosen[0].content) == ("Who has it?", "Greta.")


def test_a_fault_in_one_answer_of_a_pair_names_it() -> None:
    assert wrong(prompt="a", chosen=[user("b")], rejected="c").field == "chosen"
    assert wrong(prompt="a", chosen="b", rejected="").field == "rejected"
    assert wrong(chosen=[assistant("a")], rejected=[assistant("b")]).field == "prompt"


def test_a_judgement_says_whether_an_answer_is_wanted() -> None:
    assert row(prompt="Who?", completion="Me.", label=True) == Judgement(1, ASKED, ME, desirable=True)


def test_a_text_is_a_text() -> None:
    assert row(text="Once.", source="a book") == Text(1, "Once.")


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "My card is lost.", "label": "lost_card"},
        {"text": "My card is lost.", "label": 3},
        {"text": "Play it.", "output": {"intent": "play", "slots": [{"name": "it"}]}},
        {"question": "Who?", "context": ["The watch.", "The cook."], "answer": "The watch."},
    ],
)
def test_a_labelled_record_keeps_its_fields_for_a_template(fields: dict[str, object]) -> None:
    assert row(**fields, identifier=7) == Labelled(1, fields)


def test_rows_that_say_the_same_are_the_same_wherever_they_stand() -> None:
    rows = read([GOOD, b'{"completion": "Me.", "prompt": "Who?", "n": 1}', GOOD.replace(b"Me", b"You")])
    first, second, third = [identity(found) for found in rows if not isinstance(found, Problem)]
    assert first == second != third
