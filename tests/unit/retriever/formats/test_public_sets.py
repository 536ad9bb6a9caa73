"""The readers on documents that nobody wrote for them: one corpus in four formats, real reports, a real manual."""

import re
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from services.retriever.documents.media import MediaType, Source, of
from services.retriever.formats.convert import Raw, convert
from tests.harness.plugin_sampling import sample
from tests.public_sets import public_sets

ORGANISATIONS = ("aventro-motors", "cendara-university", "velvera-technologies")
WORD = re.compile(r"[^\W_]+")


@pytest.fixture(scope="module")
def data():
    """The folder of the public sets."""
    return public_sets()


def files_of(archive: Path):
    """Names and bytes of an archive's files."""
    with tarfile.open(archive) as opened:
        for member in opened:
            content = opened.extractfile(member)
            if content is not None:
                yield member.name, content.read()


def read(name, content):
    declared = of(Source(name, "", content))
    return convert(Raw(content, declared.media_type, declared.charset, 64 * 1024**2))


def counted(text):
    return Counter(word.lower() for word in WORD.findall(text))


def assert_whole(found):
    at = 0
    for block in found.outline.blocks:
        for start, end in block.units:
            assert not found.text[at:start].strip()
            assert found.text[start:end] == found.text[start:end].strip() != ""
            at = end
    assert not found.text[at:].strip()


@pytest.mark.parametrize("ending", ["html", "docx", "pdf"])
def test_words_of_a_corpus_are_found_again_in_each_of_its_formats(data, ending):
    written = found = 0
    archives = [dict(files_of(data / "docs-rag-multi-corpus" / f"{name}.tar.gz")) for name in ORGANISATIONS]
    documents = [(files, name) for files in archives for name in files if Path(name).suffix == ".md"]
    # The PDFs take as long as all other files, so a run reads a third of them; any third keeps at least 98 % of its words.
    for files, name in sample(documents, every=3 if ending == "pdf" else 1):
        # Only Markdown shows a link's target.
        wanted = counted(re.sub(r"\]\([^)]*\)", " ", files[name].decode()))
        other = str(Path(name).with_suffix(f".{ending}")).replace("md/", f"{ending}/")
        converted = read(other, files[other])
        assert_whole(converted)
        written += wanted.total()
        found += (wanted & counted(converted.text)).total()
    assert found / written >= {"html": 0.99, "docx": 0.99, "pdf": 0.975}[ending]


def test_reports_with_forms_and_tables_are_read_without_an_error(data):
    reports = [(n, c) for n, c in files_of(data / "docs-ntsb-pdf" / "ntsb-pdf.tar.gz") if n.endswith(".pdf")]
    assert len(reports) == 20
    for name, content in reports:
        found = read(name, content)
        assert_whole(found)
        assert len(found.pages) in (3, 4, 5)
        paths = {block.heading_path[-1] for block in found.outline.blocks if block.heading_path}
        assert "Administrative Information" in paths, name
        assert re.search(r"\| Aircraft: \| [^|]+ \| Aircraft Damage: \| \w+ \|", found.text), name
        assert not re.search(r"Page \d of \d", found.text), name


def manual(data):
    return [(n, c) for n, c in files_of(data / "docs-postgresql-17" / "html.tar.gz") if n.endswith(".html")]


def assert_manual(pages):
    for name, content in pages:
        found = read(name, content)
        assert_whole(found)
        assert found.outline.title, name
        # What stands above and below each page to lead to the others.
        assert not re.search(r"^\W*Prev\W+Up\b", found.text, re.MULTILINE), name


def test_a_sample_of_a_manual_is_read_without_an_error(data):
    assert_manual(manual(data)[::20])


@pytest.mark.soak
def test_a_whole_manual_is_read_without_an_error(data):
    pages = manual(data)
    assert len(pages) == 1144
    assert_manual(pages)


def test_a_reference_page_keeps_its_synopsis_and_its_tables(data):
    pages = dict(manual(data))
    numeric = next(content for name, content in pages.items() if name.endswith("/datatype-numeric.html"))
    assert "| smallint | 2 bytes | small-range integer | -32768 to +32767 |" in read("a.html", numeric).text
    select = next(content for name, content in pages.items() if name.endswith("/sql-select.html"))
    assert "\n    [ FROM from_item [, ...] ]\n    [ WHERE condition ]\n" in read("a.html", select).text
    assert of(Source("a.html", "", select)).media_type is MediaType.HTML
