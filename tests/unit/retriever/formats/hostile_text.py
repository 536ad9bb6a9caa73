"""Pages, tables and JSON that nobody should be able to hurt a reader with."""

import json

from tests.unit.retriever.formats.hostile_parts import Register, words

register = Register()


@register.builder
def page_of_scripts(rng):
    return "a.html", f"<script>{words(rng)}</script><style>b {{}}</style>".encode(), "no text"


@register.builder
def page_with_zeros(rng):
    return "a.html", f"<p>{words(rng)}\0</p>".encode(), "NUL"


@register.builder
def page_of_another_charset(rng):
    return "a.html", f"<p>{words(rng)} Fähre</p>".encode("latin-1"), "charset"


@register.builder
def page_of_an_unknown_charset(rng):
    return "a.html", f'<meta charset="klingon-{rng.randint(1, 9)}"><p>{words(rng)}</p>'.encode(), "klingon"


@register.builder
def page_of_a_slow_charset(rng):
    return "a.html", b'<meta charset="punycode"><p>' + words(rng).encode() * 999, "punycode"


@register.builder
def page_that_is_a_picture(rng):
    return "a.html", b"\x89PNG\r\n\x1a\n" + rng.randbytes(999), ""


@register.builder
def page_of_wide_letters_without_a_mark(rng):
    return "a.html", f"<p>{words(rng)}</p>".encode("utf-16-le"), "NUL"


@register.builder
def table_with_an_open_quote(rng):
    return "a.csv", b'name,price\nmooring,"' + b"14,2\n" * rng.randint(300_000, 400_000), "quotation mark"


@register.builder
def table_of_too_many_columns(rng):
    return "a.csv", b"a\n" + b",".join([b"1"] * rng.randint(10_001, 20_000)), "columns"


@register.builder
def table_with_zeros(rng):
    return "a.tsv", f"a\tb\n{words(rng, 2)}\t\0".encode(), "NUL"


@register.builder
def table_of_another_charset(rng):
    return "a.csv", f"name;price\n{words(rng, 1)} Fähre;3".encode("cp1252"), "charset"


@register.builder
def table_without_cells(rng):
    return "a.csv", b",;\n" * 0 + b",,\n" * rng.randint(1, 99), "no text"


@register.builder
def json_cut_short(rng):
    whole = json.dumps({words(rng, 1): [words(rng), {"a": 1}]})
    return "a.json", whole[: rng.randint(1, len(whole) - 1)].encode(), "not JSON"


@register.builder
def json_with_a_comma_too_many(rng):
    return "a.json", f'{{"a": "{words(rng)}",}}'.encode(), "not JSON"


@register.builder
def json_of_two_values(rng):
    return "a.json", f'{{"a": "{words(rng)}"}} {{}}'.encode(), "not JSON"


@register.builder
def json_nested_without_end(rng):
    depth = rng.randint(2000, 200_000)
    return "a.json", b"[" * depth + b"1" + b"]" * depth, "nested"


@register.builder
def json_nested_too_deep(rng):
    depth = rng.randint(102, 300)
    return "a.json", b'{"a":' * depth + b'"x"' + b"}" * depth, "nested"


@register.builder
def json_without_values(rng):
    return "a.json", rng.choice([b"{}", b"[]", b'""', b'{"a": {}}', b"[[], {}]"]), "no text"


@register.builder
def lines_of_which_one_is_broken(rng):
    lines = [json.dumps({"a": words(rng, 4)}) for _ in range(9)]
    at = rng.randrange(9)
    lines[at] = lines[at][:-3]
    return "a.jsonl", "\n".join(lines).encode(), f"line {at + 1}"
