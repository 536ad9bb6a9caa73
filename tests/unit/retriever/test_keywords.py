import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.keywords import fts_query, words


def test_words_are_distinct_lower_case_and_in_order():
    assert words("The gate, the GATE: 12-b!") == ("the", "gate", "12", "b")


def test_a_long_question_counts_by_its_first_words():
    assert len(words(" ".join(f"w{number}" for number in range(1000)))) == 64


NASTY = st.lists(
    st.sampled_from(["gate", '"', "'", "*", "(", ")", "AND", "OR", "NOT", "NEAR", ":", "^", "-", "+", "{", "é", "\x00"])
).map(" ".join)


@pytest.fixture(scope="module")
def table():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')")
    connection.execute("INSERT INTO t VALUES ('the gate is closed')")
    return connection


@given(question=st.one_of(st.text(max_size=60), NASTY))
def test_no_question_is_an_error_or_an_operator(table, question):
    wanted = words(question)
    if not wanted:
        return
    found = table.execute("SELECT count(*) FROM t WHERE t MATCH ?", (fts_query(wanted),)).fetchone()[0]
    if {"the", "gate", "is", "closed"} & set(wanted):
        assert found == 1
