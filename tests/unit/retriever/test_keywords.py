import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.retriever.index.embedded import EmbeddedIndex
from services.retriever.index.index import Entry
from services.retriever.text.keywords import fts_query, keyword_text, words


def test_words_are_distinct_lower_case_and_in_order():
    assert words("Gate, the GATE: 12-b!") == ("gate", "12", "b")


def test_what_only_holds_a_question_together_is_left_out_unless_there_is_nothing_else():
    assert words("How much does a mooring cost?") == ("much", "mooring", "cost")
    assert words("What is it?") == ("what", "is", "it")
    assert words("What do I owe the harbour") == ("owe", "harbour")


def test_a_name_that_is_written_like_a_function_word_is_kept():
    assert words("what does the IT office say of the WHO in May") == ("it", "office", "say", "who", "may")
    assert words("WHAT IS THE COST") == ("what", "is", "the", "cost")
    assert words("vitamin a in the blood")[:1] == ("vitamin",)


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


@pytest.fixture
def index(tmp_path):
    made = EmbeddedIndex(tmp_path / "index.db", "catalog", 0)
    made.open()
    yield made
    made.close()


def found(index, question):
    return set(index.keyword(1, words(question), 10, None))


@pytest.mark.parametrize(
    ("text", "others", "questions"),
    [
        # Chinese and Japanese have no spaces, Korean glues particles to its words, Thai has neither.
        ("码头停泊一晚的费用是十四克朗，含水费。", "狗坐在地板上可以免费过河。", ["停泊费用", "水费", "停"]),
        ("係留料は一晩14クローネで、水道代込みです。", "犬は床に座れば無料です。", ["係留料", "クローネ", "水道"]),
        ("정박 요금은 하룻밤에 열네 크로네이며 물값이 포함됩니다.", "개는 무료입니다.", ["요금", "정박요금", "물값"]),
        ("ค่าจอดเรือคืนละสิบสี่โครนรวมค่าน้ำ", "สุนัขข้ามฟรี", ["จอดเรือ", "ค่าน้ำ"]),
        ("जहाज का किराया चौदह क्राउन है", "कुत्ता मुफ्त है", ["किराया", "जहाज"]),
        ("رسوم الرسو أربعة عشر كرونة", "الكلب مجاني", ["الرسو", "رُسُوم"]),
        (
            "Die Liegeplatzgebühr für den Hafen ist nicht in der Haftpflichtversicherung enthalten.",
            "Der Hund ist frei.",
            ["Gebühr", "gebuhr", "Versicherung", "Liegeplatz", "HAFTPFLICHT", "liegeplatzgebühr"],
        ),
        ("Le café du port est fermé à la marée haute.", "Le chien passe.", ["cafe", "MARÉE", "fermes"]),
        ("Set max_tokens, or call getMooringPrice on a read-only quay.", "A dog.", ["max tokens", "maxtokens"]),
        ("Set max_tokens, or call getMooringPrice on a read-only quay.", "A dog.", ["mooring price", "readonly"]),
        ("The price is ＦＯＵＲ crowns of ﬁne silver.", "A dog.", ["four", "fine"]),
        ("Договор страхования лодки", "Собака бесплатно", ["страхования", "ДОГОВОР"]),
    ],
)
def test_a_chunk_in_any_language_is_found_by_its_words_alone(index, text, others, questions):
    index.replace(1, [Entry(1, text, b""), Entry(2, others, b"")], [])
    for question in questions:
        assert found(index, question) == {1}, question


def test_a_question_of_other_words_finds_nothing(index):
    index.replace(1, [Entry(1, "码头停泊一晚的费用", b""), Entry(2, "Die Versicherung der Boote", b"")], [])
    assert found(index, "天气预报") == set()
    assert found(index, "Sicherheit") == set()


@given(st.text(max_size=200))
def test_what_is_stored_follows_from_the_text_and_holds_what_a_question_asks(text):
    stored = keyword_text(text).split()
    assert keyword_text(text) == keyword_text(text)
    assert set(words(text)) <= set(stored)


def test_english_prose_is_stored_as_it_is():
    text = "the keeper sounds the siren three times when the gate is closed"
    assert keyword_text(text) == text
