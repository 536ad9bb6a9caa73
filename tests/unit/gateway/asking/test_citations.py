from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.citations import verify
from gateway.generation import SourceSpan


def spans(count):
    return [SourceSpan("c", f"d{n}", "v" * 64, n, n + 5, f"k{n}", n) for n in range(1, count + 1)]


def test_a_marker_resolves_to_its_source_and_says_where_it_stands():
    answer = "Né à Paris [2]."
    (citation,) = verify(answer, spans(2)).citations
    assert answer[citation.answer_start : citation.answer_end] == "[2]"
    assert citation.span.document == "d2"


def test_a_marker_that_names_no_source_is_listed_and_never_cited():
    verified = verify("a [3] b [0] c [3] d [1]", spans(1))
    assert [item.marker for item in verified.citations] == [1]
    assert verified.unresolved_markers == (3, 0)


def test_each_use_of_a_marker_is_a_citation_of_its_own():
    assert [item.marker for item in verify("[1][2] and [1]", spans(2)).citations] == [1, 2, 1]


def test_markers_inside_json_count():
    verified = verify('{"answer": "Yes.", "source": "[1]"}', spans(1))
    assert [item.marker for item in verified.citations] == [1]


def test_without_sources_no_marker_resolves():
    assert verify("as [1] says", []).unresolved_markers == (1,)


def test_a_number_too_large_for_any_marker_is_text():
    verified = verify("[12345678901234567890]", spans(1))
    assert verified.citations == ()
    assert verified.unresolved_markers == ()


@given(answer=st.text(st.sampled_from("[]0123 a²"), max_size=60), count=st.integers(0, 3))
def test_every_citation_has_a_source_and_stands_where_it_says(answer, count):
    verified = verify(answer, spans(count))
    for item in verified.citations:
        assert answer[item.answer_start : item.answer_end].strip("[] ").lstrip("0") == str(item.marker)
        assert 1 <= item.marker <= count
        assert item.span.marker == item.marker
    assert not any(1 <= marker <= count for marker in verified.unresolved_markers)
