import hashlib
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.retriever.documents.media import MediaType, Source
from services.retriever.text.texts import NormalisedText, UnreadSource, normalised, read
from tests.harness.wording import missing

LIMIT = 1000


def refusal(content, name="notes.txt", media_type=""):
    with pytest.raises(Failure) as refused:
        read(Source(name, media_type, content), LIMIT)
    return refused.value


def text_of(source):
    found = read(source, LIMIT)
    assert isinstance(found, NormalisedText)
    return found


def test_a_version_is_the_digest_of_the_normalised_text():
    windows = text_of(Source("a.txt", "", "één\r\ntwee\r".encode()))
    unix = text_of(Source("b.txt", "", unicodedata.normalize("NFD", "één\ntwee\n").encode()))
    assert windows.text == unix.text == "één\ntwee\n"
    assert windows.version == unix.version == hashlib.sha256(windows.text.encode()).hexdigest()
    assert windows.source_sha256 != unix.source_sha256


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalised(normalised(text)) == normalised(text)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_says_the_encoding(encoding):
    assert text_of(Source("a.txt", "", "Fährplan".encode(encoding))).text == "Fährplan"


def test_a_declared_charset_is_believed():
    assert text_of(Source("a", "text/plain; charset=windows-1252", "Fähre".encode("cp1252"))).text == "Fähre"


def test_a_charset_alone_leaves_the_kind_to_the_name():
    said = "application/octet-stream; charset=latin-1"
    text = text_of(Source("a.md", said, "# Fähre".encode("latin-1")))
    assert (text.text, text.media_type, text.charset) == ("# Fähre", MediaType.MARKDOWN, "iso8859-1")
    page = read(Source("a.html", said, b"x"), LIMIT)
    assert (page.media_type, page.charset) == (MediaType.HTML, "iso8859-1")
    # What says itself how it is written has none.
    assert read(Source("a.pdf", said, b"%PDF-1.7"), LIMIT).charset == ""


def test_the_media_type_follows_from_the_name_when_none_is_given():
    assert text_of(Source("a/b.MD", "", b"x")).media_type is MediaType.MARKDOWN
    assert text_of(Source("a/b", "", b"x")).media_type is MediaType.PLAIN


def test_bytes_of_another_encoding_are_refused_with_the_place_and_a_guess():
    failure = refusal("Die Fähre fährt über die Förde, täglich außer sonntags.".encode("cp1252"))
    assert failure.reason is Reason.DOCUMENT_NOT_TEXT
    assert not missing(failure.sentence, "byte 5", "utf-8")
    (seems,) = set(re.findall(r"--charset ([\w-]+)", failure.sentence))
    assert f"docs.add(..., charset='{seems}')" in failure.sentence
    said = f"text/plain; charset={seems}"
    assert f"'{said}'" in failure.sentence
    # What is proposed is read.
    assert text_of(Source("a.txt", said, "Die Fähre fährt.".encode("cp1252"))).charset == seems


@pytest.mark.parametrize(
    ("charset", "text", "first", "others"),
    [
        # Too few letters to tell: the charset that most such files are in, and what else it may be.
        ("latin-1", "café crème costs 5 crowns", "cp1252", ["cp1250"]),
        ("latin-1", "Färjan går klockan åtta på morgonen, barn åker för halva priset.", "cp1252", ["cp1250"]),
        ("cp1252", "“Smart quotes” – and an em dash — with café", "cp1252", []),
        ("cp1250", "Zażółć gęślą jaźń. Prom odpływa o ósmej rano, dzieci płacą połowę.", "cp1250", []),
        ("cp1251", "Паром отправляется в восемь часов утра, дети платят половину.", "cp1251", []),
        ("cp932", "フェリーは朝八時に出発します。子供は半額です。", "cp932", []),
    ],
)
def test_the_guess_is_the_usual_charset_and_the_others_where_nothing_tells_them_apart(charset, text, first, others):
    sentence = refusal(text.encode(charset)).sentence
    assert f"--charset {first}," in sentence
    known = ("cp1250", "cp1251", "cp1252", "cp932")
    assert [name for name in known if not missing(sentence, name)] == sorted([first, *others])


@pytest.mark.parametrize(
    ("charset", "text"),
    [("cp850", "Größe"), ("cp1255", "שלום"), ("iso-8859-7", "Θάλασσα"), ("cp866", "Паром"), ("cp932", "渡し船")],
)
def test_texts_of_old_machines_are_read(charset, text):
    assert text_of(Source("a.txt", f"text/plain; charset={charset}", text.encode(charset))).text == text


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"%PDF-1.7 ...", "a PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"some\x00thing", "NUL"),
        (b"\x01\x02\x03\x04 text", "control characters"),
        (b"\xff\xd8\xff\xe0", "JPEG"),
    ],
)
def test_what_is_no_text_is_refused_by_what_it_is(content, named):
    failure = refusal(content)
    assert failure.reason is Reason.DOCUMENT_NOT_TEXT
    assert named in failure.sentence


def test_another_media_type_is_refused_by_name():
    assert "application/msword" in refusal(b"x", media_type="application/msword").sentence


@pytest.mark.parametrize(
    ("name", "said", "content", "found"),
    [
        ("a.html", "", b"x", MediaType.HTML),
        ("a.txt", "application/pdf", b"x", MediaType.PDF),
        ("a", "application/octet-stream", b"%PDF-1.7", MediaType.PDF),
        ("https://example.org/page", "", b"\xef\xbb\xbf\n<!DOCTYPE HTML><p>x", MediaType.HTML),
        ("a/b.JSONL", "", b"{}", MediaType.JSON_LINES),
        ("a", "", b"PK\x03\x04 word/document.xml", MediaType.DOCX),
        ("a", "text/csv; charset=windows-1252", b"x", MediaType.CSV),
    ],
)
def test_other_formats_are_known_by_type_then_name_then_beginning(name, said, content, found):
    source = read(Source(name, said, content), LIMIT)
    assert isinstance(source, UnreadSource)
    assert (source.media_type, source.content) == (found, content)


@pytest.mark.parametrize("name", ["a.doc", "a.ppt", "a.docm", "a.PPTM"])
def test_formats_that_are_not_read_say_which_one_is(name):
    failure = refusal(b"x", name)
    assert failure.reason is Reason.DOCUMENT_NOT_TEXT
    assert re.search(r" \.\w+", failure.sentence)


@pytest.mark.parametrize("name", ["klingon", "k" * 100, "cp\x00"])
def test_an_unknown_charset_is_refused_by_name(name):
    failure = refusal(b"x", media_type=f"text/plain; charset={name}")
    assert failure.reason is Reason.DOCUMENT_NOT_TEXT
    assert not missing(failure.sentence, f"charset {name[:64].strip(chr(0))}")


def test_a_document_over_the_limit_is_refused_with_both_sizes():
    failure = refusal(b"x" * 1001)
    assert failure.reason is Reason.DOCUMENT_TOO_LARGE
    assert "1001" in failure.sentence
    assert "1000" in failure.sentence


@pytest.mark.parametrize("content", [b"", b" \n\t ", "\ufeff".encode()])
def test_a_document_without_words_is_refused(content):
    assert refusal(content).reason is Reason.DOCUMENT_EMPTY


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "utf-7", "undefined"])
def test_a_charset_whose_decoder_is_slow_or_no_charset_is_refused(charset):
    refused = refusal(b"a" * 100, media_type=f"text/plain; charset={charset}")
    assert refused.reason is Reason.DOCUMENT_NOT_TEXT


def test_half_a_character_is_refused():
    refused = refusal(b"\xd8\x00", media_type="text/plain; charset=utf-16-be")
    assert refused.reason is Reason.DOCUMENT_NOT_TEXT
