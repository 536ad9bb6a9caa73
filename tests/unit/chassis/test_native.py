"""What is loaded was compiled from the source that is there."""

import ctypes
from pathlib import Path

import pytest

from services.chassis import native


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIVIUM_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "number.h").write_text("constexpr int kNumber = 7;\n")
    written = tmp_path / "number.cpp"
    written.write_text('#include "number.h"\nextern "C" int number() { return kNumber; }\n')
    return written


def number(library: ctypes.CDLL) -> int:
    found: int = library.number()
    return found


def test_code_is_compiled_once_and_again_when_its_source_or_a_header_changes(source: Path) -> None:
    assert number(native.loaded(source)) == 7
    first = native.compiled(source)
    written = first.stat().st_mtime_ns
    assert native.compiled(source) == first
    assert first.stat().st_mtime_ns == written
    source.with_suffix(".h").write_text("constexpr int kNumber = 8;\n")
    assert native.compiled(source) != first
    assert number(native.loaded(source)) == 8


def test_without_a_compiler_it_says_how_to_get_one(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(native.NoCompiler, match="apt-get install g"):
        native.compiled(source)


def test_what_was_compiled_before_needs_no_compiler(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.compiled(source)
    monkeypatch.setenv("PATH", "/nowhere")
    assert native.compiled(source) == first


def test_code_is_available_where_it_was_compiled_or_can_be(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.available(source)
    with monkeypatch.context() as bare:
        bare.setenv("PATH", "/nowhere")
        assert not native.available(source)
    native.compiled(source)
    monkeypatch.setenv("PATH", "/nowhere")
    assert native.available(source)
