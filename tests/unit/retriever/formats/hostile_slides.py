"""Presentations that nobody should be able to hurt a reader with."""

from tests.unit.retriever.formats import building
from tests.unit.retriever.formats.hostile_parts import OLE, Register, good_slides, good_word, laughs, words, zeros

register = Register()


@register.builder
def slides_cut_short(rng):
    return "a.pptx", good_slides()[: rng.randint(10, len(good_slides()) - 30)], "PowerPoint"


@register.builder
def slides_that_are_word(rng):
    return "a.pptx", good_word(), "Word document"


@register.builder
def slides_with_macros(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/vbaProject.bin": rng.randbytes(99)}), "macros"


@register.builder
def slides_that_unpack_to_much(rng):
    return "a.pptx", building.with_parts(good_slides(), {f"ppt/media/{words(rng, 1)}.png": zeros(90)}), "bomb"


@register.builder
def slides_with_laughs(rng):
    slide = building.parts_of(good_slides())["ppt/slides/slide1.xml"].split(b"?>", 1)[1]
    return (
        "a.pptx",
        building.with_parts(good_slides(), {"ppt/slides/slide1.xml": laughs(rng).encode() + slide}),
        "entit",
    )


@register.builder
def slides_of_broken_markup(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": words(rng).encode()}), "PowerPoint"


@register.builder
def slides_without_a_slide(rng):
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": None}), "PowerPoint"


@register.builder
def slides_without_words(rng):
    return "a.pptx", building.slides(*[(" ", "")] * rng.randint(1, 3)), "no text"


@register.builder
def slides_of_the_old_kind(rng):
    return "a.pptx", OLE + rng.randbytes(2048), "old Office document"


@register.builder
def slides_of_nested_groups(rng):
    depth = rng.randint(30, 60)
    slide = building.parts_of(good_slides())["ppt/slides/slide1.xml"].decode()
    group = '<p:grpSp><p:nvGrpSpPr><p:cNvPr id="9" name="g"/><p:cNvGrpSpPr/><p:nvPr/></p:nvGrpSpPr><p:grpSpPr/>'
    nested = slide.replace("</p:spTree>", f"{group * depth}{'</p:grpSp>' * depth}</p:spTree>")
    return "a.pptx", building.with_parts(good_slides(), {"ppt/slides/slide1.xml": nested.encode()}), "nested"
