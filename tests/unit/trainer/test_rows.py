import io
import json

import pytest

from services.trainer.data.rows import MAX_LINE_BYTES, MAX_TURNS, Format, Problem, Row, Turn, bounded, read

GOOD = json.dumps({"prompt": "Who?", "completion": "Me."}).encode()


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
    (row,) = read([json.dumps(line).encode()])
    assert isinstance(row, Row)
    assert [turn.role for turn in row.turns] == ["system", "user", "assistant"]


def test_blank_lines_are_passed_over_and_still_counted() -> None:
    assert [row.line for row in read([b"\n", GOOD, b"  \n", GOOD])] == [2, 4]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b'{"prompt": "a", ', "not JSON at column"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[1, 2]", "a JSON object is needed, this is a list"),
        (b'{"question": "a"}', "its fields are: question"),
        # What is said of a row travels in messages that hold no half characters.
        (rb'{"\ud800": "a"}', "its fields are: ?"),
        (b'{"prompt": "a"}', 'no "completion"'),
        (b'{"prompt": "", "completion": "b"}', "empty"),
        (b'{"messages": []}', "an empty list"),
        (b'{"messages": [{"role": "robot", "content": "a"}]}', "must be one of system, user, assistant, tool"),
        (b'{"messages": [{"role": "user", "content": 3}]}', "must be text, this is a number"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "nothing to learn"),
        (b'{"prompt": "a", "chosen": "b", "rejected": "c"}', "not trained on yet"),
        (b'{"text": "a"}', "not trained on yet"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "begin with what it answers to"),
        (rb'{"prompt": "a\udc00", "completion": "b"}', r"\udc00 is half a character"),
    ],
)
def test_a_malformed_line_is_named_with_what_to_do(line: bytes, says: str) -> None:
    assert says in problem(line).message


def test_a_row_has_as_many_turns_as_may_be_and_no_more() -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * (MAX_TURNS // 2)
    (row,) = read([json.dumps({"messages": turns}).encode()])
    assert isinstance(row, Row)
    assert "at most 512" in problem(json.dumps({"messages": turns[:1] + turns}).encode()).message


def test_a_line_that_is_too_long_is_one_problem_and_the_lines_behind_it_keep_their_numbers() -> None:
    longest = b'{"prompt": "a", "completion": "' + b"b" * (MAX_LINE_BYTES - 33) + b'"}'
    assert len(longest) == MAX_LINE_BYTES
    content = b"\n".join([GOOD, longest, longest + b" ", b" " * (5 * MAX_LINE_BYTES), GOOD])
    found = list(read(bounded(io.BytesIO(content))))
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
