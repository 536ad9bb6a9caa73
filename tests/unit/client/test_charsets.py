"""A charset is called by any of its names, and what is none is refused before a file is looked at."""

from pathlib import Path

import pytest
from trivium_client import Trivium
from trivium_client.charsets import is_read_as, known_as, media_type


def test_the_names_of_a_charset_are_one() -> None:
    assert {known_as(name) for name in ("latin-1", "Latin1", "ISO-8859-1", "l1")} == {"iso8859-1"}
    assert media_type("latin1") == "application/octet-stream; charset=iso8859-1"
    assert (known_as(""), media_type("")) == ("", "")


@pytest.mark.parametrize("name", ["latin-99", "hex", "rot13", "a\0b", " "])
def test_what_is_no_charset_is_refused_with_some_that_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"charset.* latin-1"):
        known_as(name)
    with Trivium(api_key="k", addresses={"retriever": "127.0.0.1:1"}) as client:
        with pytest.raises(ValueError, match=r"charset.* latin-1"):
            client.docs.add(tmp_path / "nothing.txt", collection="letters", charset=name)
        with pytest.raises(ValueError, match=r"charset.* latin-1"):
            client.docs.add_folder(tmp_path, collection="letters", charset=name)


@pytest.mark.parametrize(
    ("held", "read"),
    [
        ("text/plain; charset=iso8859-1", True),
        ("text/plain", False),
        ("text/html; charset=cp1252", False),
        ("application/pdf", True),
        ("application/json", False),
    ],
)
def test_a_document_tells_whether_it_was_read_under_a_charset(held: str, read: bool) -> None:
    assert is_read_as(held, "iso8859-1") is read
    assert is_read_as("text/plain", "utf-8")
