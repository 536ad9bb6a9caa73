"""Files of all kinds, and bytes that are none: what the readers make of them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from services.trainer.data.reading import file_type, read
from services.trainer.data.records import MAX_RECORD_BYTES, FileType
from services.trainer.data.rows import AnyRow, Labelled, Problem, Row, Text, Turn

Fields = dict[str, Any]


def as_json_lines(records: list[Fields]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def as_csv(records: list[Fields], delimiter: str = ",", line_end: str = "\r\n") -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), delimiter=delimiter, lineterminator=line_end)
    writer.writeheader()
    for record in records:
        writer.writerow(
            {name: value if isinstance(value, str) else json.dumps(value) for name, value in record.items()}
        )
    return text.getvalue().encode()


def as_parquet(records: list[Fields], **options: Any) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(records), sink, **options)
    return sink.getvalue()


def rows(content: bytes) -> list[AnyRow | Problem]:
    return list(read(io.BytesIO(content)))


def first_problem(content: bytes) -> Problem:
    return next(found for found in read(io.BytesIO(content)) if isinstance(found, Problem))


def unplaced(content: bytes) -> list[AnyRow]:
    """The rows without their lines."""
    found = [found for found in rows(content) if not isinstance(found, Problem)]
    assert len(found) == len(rows(content)), rows(content)
    return [replace(row, line=0) for row in found]


MESSAGES = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me,\nand you."}]
LOOK: Fields = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}}},
}
CALL: Fields = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 6}'}}
CALLED: list[Fields] = [
    MESSAGES[0],
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "Ada", "tool_call_id": "call_1"},
    MESSAGES[1],
]
SETS: dict[str, list[Fields]] = {
    "tools": [{"messages": CALLED, "tools": [LOOK], "parallel_tool_calls": False}],
    "chat": [{"messages": MESSAGES}, {"messages": MESSAGES + MESSAGES}],
    "prompt and completion": [{"prompt": "Who?", "completion": 'The "watch",\nand Greta.'}] * 2,
    "sides of messages": [{"prompt": MESSAGES[:1], "completion": MESSAGES[1:]}],
    "text": [{"text": "Once, upon; a time.\r\nThe end."}, {"text": "[{not json"}],
    "pairs": [{"prompt": "Who?", "chosen": "Me.", "rejected": "You."}],
    "pairs of messages": [{"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "You."}]}],
    "judgements": [{"prompt": "Who?", "completion": "Me.", "label": answer} for answer in (True, False)],
    "labels": [{"text": "It is lost.", "label": "lost"}, {"text": "It is here.", "label": "found"}],
    "objects": [{"text": "Play it.", "output": {"intent": "play", "count": 2}}],
    "contexts": [{"question": "Who?", "context": ["The watch.", "The cook, at six."], "answer": "The watch."}],
}


@pytest.mark.parametrize("written", [as_json_lines, as_csv, as_parquet])
def test_what_is_wrong_with_tools_is_told_in_a_file_of_any_kind(written: Callable[[list[Fields]], bytes]) -> None:
    plain: Fields = {"messages": MESSAGES, "tools": []}
    assert len(unplaced(written([plain]))) == 1
    nameless = [{"type": "function", "function": {"name": ""}}]
    assert first_problem(written([plain, {"messages": MESSAGES, "tools": nameless}])).field == "tools[0].function.name"
    unknown = [{**CALLED[1], "content": ""}, *CALLED[2:]]
    told = first_problem(written([plain, {"messages": [CALLED[0], *unknown], "tools": []}]))
    assert told.field == "messages[1].tool_calls[0].function.name"


@pytest.mark.parametrize("name", SETS)
def test_a_file_says_the_same_as_json_lines_as_csv_and_as_parquet(name: str) -> None:
    records = SETS[name]
    expected = unplaced(as_json_lines(records))
    assert len(expected) == len(records)
    for delimiter in ",;\t":
        assert unplaced(as_csv(records, delimiter)) == expected
    assert unplaced(as_csv(records, line_end="\n")) == expected
    assert unplaced(as_parquet(records)) == expected
    assert unplaced(as_parquet(records, row_group_size=1, compression="zstd")) == expected


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).filter(lambda text: text.strip())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_whatever_texts_hold_all_kinds_of_files_say_the_same(pairs: list[tuple[str, str]]) -> None:
    records: list[Fields] = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    expected = unplaced(as_json_lines(records))
    assert unplaced(as_csv(records)) == expected
    assert unplaced(as_parquet(records)) == expected


GOOD = {
    kind: make([{"text": "Once."}, {"text": "Twice."}])
    for kind, make in ((FileType.JSON_LINES, as_json_lines), (FileType.CSV, as_csv), (FileType.PARQUET, as_parquet))
}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.sampled_from(list(GOOD.values())), st.data())
def test_any_bytes_end_in_rows_and_problems_that_name_a_line_of_the_file(content: bytes, data: st.DataObject) -> None:
    begin = data.draw(
        st.sampled_from([b"", b"text\n", b'"prompt","completion"\n', b'{"text": "a"}\n', b"\xef\xbb\xbf"])
    )
    end = data.draw(st.integers(0, len(content)))
    flipped = bytearray(begin + content[:end])
    for _ in range(data.draw(st.integers(0, 2))):
        if flipped:
            flipped[data.draw(st.integers(0, len(flipped) - 1))] = data.draw(st.integers(0, 255))
    lines = [found.line for found in rows(bytes(flipped))]
    assert lines == sorted(lines)
    assert all(1 <= line <= flipped.count(b"\n") + 2 for line in lines)


@pytest.mark.parametrize("kind", FileType)
def test_a_file_is_known_by_its_bytes(kind: FileType) -> None:
    assert file_type(io.BytesIO(GOOD[kind])) is kind
    assert unplaced(GOOD[kind]) == [Text(0, "Once."), Text(0, "Twice.")]


@pytest.mark.parametrize("kind", [FileType.JSON_LINES, FileType.CSV])
def test_the_mark_that_some_editors_put_first_is_no_part_of_a_file(kind: FileType) -> None:
    assert rows(b"\xef\xbb\xbf" + GOOD[kind]) == rows(GOOD[kind])


def test_a_record_of_csv_is_named_by_the_line_that_it_begins_on() -> None:
    content = b'prompt,completion\n"a\nb",c\n\n"d\n\n\n",\n"e",f\n'
    assert [(type(found), found.line) for found in rows(content)] == [(Row, 2), (Problem, 5), (Row, 9)]


def test_columns_of_csv_are_found_in_any_case_and_others_are_passed_over() -> None:
    content = b"Id,PROMPT, Completion \n7,Who?,Me.\n"
    assert rows(content) == [Row(2, (Turn("user", "Who?"), Turn("assistant", "Me.")))]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"prompt,completion\na,b,c\n", 2, "the record has 3 cells, the header has 2 (completion, prompt)"),
        (b'prompt,completion\na,b\n"a,b\n', 3, "not CSV (unexpected end of data)"),
        (b'prompt,completion\na,"b"c\n', 2, "not CSV"),
        (b"prompt,completion\na,\xff\n", 2, "the cell is not UTF-8"),
        (b"messages,n\nhello,1\n", 2, "not JSON at character 1"),
        (b"prompt,completion,label\na,b,perhaps\n", 2, "must be true or false, this is a text"),
        (b'prompt,completion\n"a,' + b"b\n" * MAX_RECORD_BYTES, 2, "is a quotation mark missing?"),
        (b"PK\x03\x04rest", 1, "Excel"),
        (b"\x1f\x8brest", 1, "unpack it"),
        ("prompt,completion\r\na,b".encode("utf-16"), 1, "UTF-16"),
        (b"PAR1 and nothing", 1, "the Parquet file cannot be read"),
        (as_parquet([{"id": 1, "body": "a"}]), 1, "no column is one of messages, prompt"),
        (as_parquet([{"text": "a"}, {"text": "b" * MAX_RECORD_BYTES}]), 2, "more than 1048576 bytes"),
        (as_parquet([{"text": b"a"}, {"text": b"\xff"}]), 2, "the cell is not UTF-8"),
        (as_parquet([{"text": "a"}, {"text": None}]), 2, "its fields are: none"),
        (as_parquet([{"messages": "nonsense"}]), 1, "not JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_line_and_what_to_do(content: bytes, line: int, says: str) -> None:
    found = first_problem(content)
    assert found.line == line
    assert says in found.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,subject,body\n1,a,b\n2,c,d\n", "columns are body, id, subject; call what is asked prompt"),
        (b'id;Text of it\n1;"a\nb"\n', "columns are Text of it, id; call"),
        (b"\xef\xbb\xbfinstruction\tresponse\nDo\tDone\n", "columns are instruction, response; call"),
        (b'[\n  {"text": "a"},\n  {"text": "b"}\n]\n', "this is one JSON list"),
        (b'[{"text": "a"},\n{"text": "b"}]\n', "jq -c '.[]' FILE"),
    ],
)
def test_a_file_that_is_plainly_something_else_is_told_once_what_to_do(content: bytes, says: str) -> None:
    (found,) = rows(content)
    assert isinstance(found, Problem)
    assert (found.line, says in found.message) == (1, True), found.message


@pytest.mark.parametrize(
    "content", [b'{"text": "a"}\n[1]\n', b"[1]\n[2]\n", b"Hello, dear world!\nOne, two\n", b"a\nb\n"]
)
def test_what_may_be_json_lines_is_told_line_by_line(content: bytes) -> None:
    assert [found.line for found in rows(content)] == [1, 2]


def test_a_part_of_parquet_that_is_damaged_ends_it_and_the_rows_before_it_are_read() -> None:
    records: list[Fields] = [{"text": f"{index}" * 500} for index in range(10, 110)]
    content = bytearray(as_parquet(records, row_group_size=10, compression="none", use_dictionary=False))
    middle = content.index(b"60" * 500)
    content[middle - 60 : middle] = b"\xff" * 60
    *before, last = rows(bytes(content))
    assert isinstance(last, Problem)
    assert "cannot be read" in last.message
    assert [row.line for row in before] == list(range(1, last.line))
    assert last.line > 1


def test_a_struct_of_parquet_loses_what_it_leaves_null() -> None:
    content = as_parquet([{"text": "a", "output": {"x": 1, "y": None}}, {"text": "b", "output": {"x": None, "y": "2"}}])
    first, second = rows(content)
    assert isinstance(first, Labelled)
    assert isinstance(second, Labelled)
    assert (first.fields["output"], second.fields["output"]) == ({"x": 1}, {"y": "2"})
