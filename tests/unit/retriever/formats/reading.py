"""What a converter read, as tests look at it."""

from services.retriever.formats.convert import Raw, convert


def read(content, media_type, charset="", most_characters=10_000_000):
    raw = content.encode() if isinstance(content, str) else content
    return convert(Raw(raw, media_type, charset, most_characters))


def blocks(converted):
    """Kind, path and the characters of every unit: offsets that are off by one show here."""
    return [
        (block.kind.value, block.heading_path, [converted.text[start:end] for start, end in block.units])
        for block in converted.outline.blocks
    ]


def assert_whole(converted):
    """Units are in order, do not overlap, are trimmed, and hold every character that is not blank."""
    at = 0
    for block in converted.outline.blocks:
        for start, end in block.units:
            assert not converted.text[at:start].strip()
            assert converted.text[start:end] == converted.text[start:end].strip() != ""
            at = end
    assert not converted.text[at:].strip()
