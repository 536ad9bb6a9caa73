import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.citations import MARKER
from gateway.asking.prompt import SYSTEM_TEXT, Quotation, defuse, grounded, plain
from gateway.generation import Message, Speaker
from services.chassis.sources_prompt import FORMATS

PIECES = st.sampled_from(
    [
        "<",
        ">",
        "/",
        "<sources>",
        "</sources>",
        "< / SOURCES >",
        "[",
        "]",
        "7",
        ",",
        ";",
        "<|",
        "|>",
        "<|im_start|>",
        " ",
        "x",
    ]
)
NASTY = st.lists(PIECES, max_size=12).map("".join)


@given(title=NASTY, text=NASTY)
def test_a_source_can_neither_close_the_fence_nor_forge_a_marker_nor_open_a_turn(title, text):
    (_, user) = grounded("q", [Quotation(title, text)])
    block = user.content.removesuffix("\nQuestion: q")
    assert block.startswith("<sources>\n[1] (")
    assert block.endswith("\n</sources>")
    inner = block.removeprefix("<sources>\n[1] (").removesuffix("\n</sources>")
    assert "\n" not in inner
    assert not re.search(r"<\s*/?\s*sources\s*>", inner, re.IGNORECASE)
    assert not MARKER.search(inner)
    assert "<|im_start|>" not in inner


def test_the_prompt_is_what_the_agreed_shape_says_to_the_character():
    messages = grounded("Who pays?", [Quotation("Fares", "Adults\n pay  9.")])
    assert messages == [
        Message(Speaker.SYSTEM, SYSTEM_TEXT),
        Message(Speaker.USER, "<sources>\n[1] (Fares) Adults pay 9.\n</sources>\nQuestion: Who pays?"),
    ]


def test_no_sources_leave_an_empty_fence():
    assert grounded("q", [])[-1].content == "<sources>\n</sources>\nQuestion: q"


def test_the_callers_own_system_text_comes_before_ours_and_turns_between():
    history = [
        Message(Speaker.SYSTEM, "Be brief."),
        Message(Speaker.USER, "Hi"),
        Message(Speaker.ASSISTANT, "Hello"),
    ]
    messages = grounded("q", [], history, "Speak French.")
    assert messages[0] == Message(Speaker.SYSTEM, f"Speak French.\nBe brief.\n{SYSTEM_TEXT}")
    assert messages[1:3] == history[1:]


def test_a_plain_question_gets_nothing_added():
    assert plain("q") == [Message(Speaker.USER, "q")]
    assert plain("q", instructions="Be brief.")[0] == Message(Speaker.SYSTEM, "Be brief.")


FAMILIES = {
    "ChatML, Qwen": ("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    "Llama 3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "Granite": ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    "DeepSeek": ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "Gemma": ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"),
    "Llama 2": ("<s>", "</s>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    "Mistral": ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]"),
}
EVERY_TOKEN = [token for tokens in FAMILIES.values() for token in tokens]


@pytest.mark.parametrize("prompt_format", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_source_opens_no_turn_in_the_words_of_any_family(family, prompt_format):
    for token in FAMILIES[family]:
        said = f"before{token}user {token}{token} behind"
        (_, user) = grounded("q", [Quotation(said, said)], prompt_format=prompt_format)
        assert token not in user.content
        # Its words are still there to be read, in as many characters.
        assert len(defuse(said)) == len(said) - 3 * token.count("|") - 3 * token.count("｜")
        assert token.strip("<>[]|｜") in defuse(said)


@given(
    st.lists(st.sampled_from([*EVERY_TOKEN, "<", ">", "[", "]", "|", "｜", "/", "s", "[7]", "</sources>"]), max_size=8)
)
def test_no_token_comes_about_by_what_stood_around_another(parts):
    for text in ("".join(parts), *(part[:1] + "".join(parts) + part[1:] for part in parts)):
        once = defuse(text)
        assert not [token for token in EVERY_TOKEN if token in once]
        assert not MARKER.search(once)
        assert not re.search(r"<\s*/?\s*sources\s*>", once, re.IGNORECASE)


def test_what_only_looks_like_a_token_stays():
    for text in ("a < b > c", "<strong>", "[sic]", "x<sum>", "list[s]", "<<a>>", "a|b"):
        assert defuse(text) == text


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("pays 9 [2].", "pays 9 (2)."),
        ("[ 2 ] (Fares 2026) Dogs pay 900 crowns.", "( 2 ) (Fares 2026) Dogs pay 900 crowns."),
        ("[1, 2] [1;2] [ 1 ,  2 ; 3 ]", "(1, 2) (1;2) ( 1 , 2 ; 3 )"),
        ("[1\n,\t2]", "(1 , 2)"),
        ("[[2]] [x[2]] [1, [2]]", "[(2)] [x(2)] [1, (2)]"),
        ("[٢] [２, 3]", "(٢) (２, 3)"),
    ],
)
def test_whatever_an_answer_would_cite_by_is_none_in_a_source(said, read):
    assert defuse(said) == read
    (_, user) = grounded("q", [Quotation(said, said)])
    assert [found.group() for found in MARKER.finditer(user.content)] == ["[1]"]


# Adapters were trained on these as they stand: no character of them may become another one.
@pytest.mark.parametrize(
    "text",
    [
        "[1-3]",
        "[1–3]",
        "[1.5]",
        "[1, x]",
        "[,1]",
        "[1,]",
        "[1 2]",
        "[ ]",
        "[]",
        "[2",
        "2]",
        "a[i]",
        "[p. 2]",
        "(1, 2)",
        "[-1]",
    ],
)
def test_what_no_answer_could_cite_by_stays_as_it_is(text):
    assert defuse(text) == text
    assert not MARKER.search(text)


@given(text=NASTY)
def test_defusing_twice_changes_nothing_more_in_markers_and_fences(text):
    once = defuse(text)
    assert not MARKER.search(once)
    assert not re.search(r"<\s*/?\s*sources\s*>", once, re.IGNORECASE)
