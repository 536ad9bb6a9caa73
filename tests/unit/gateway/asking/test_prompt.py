import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.asking.prompt import SYSTEM_TEXT, Quotation, defuse, grounded, plain
from gateway.generation import Message, Speaker

PIECES = st.sampled_from(
    ["<", ">", "/", "<sources>", "</sources>", "< / SOURCES >", "[", "]", "7", "<|", "|>", "<|im_start|>", " ", "x"]
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
    assert not re.search(r"\[\d+\]", inner)
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


@given(text=NASTY)
def test_defusing_twice_changes_nothing_more_in_markers_and_fences(text):
    once = defuse(text)
    assert not re.search(r"\[\d+\]", once)
    assert not re.search(r"<\s*/?\s*sources\s*>", once, re.IGNORECASE)
