"""What of a folder is a document, what is left out for its ending, and that one look is enough for both."""

import os
from collections.abc import AsyncIterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, cast

import pytest
from trivium_client.documents import Collections, Documents
from trivium_client.folder_files import Selection, below
from trivium_client.folders import FolderPasses, Place
from trivium_client.nouns import Document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents, a drawing, and what is in no case a document."""
    made = tmp_path / "handbook"
    outside = tmp_path / "outside.md"
    outside.write_text("# Outside\n")
    for name in ("leave.md", "quay/storms.txt", "quay/gate.step", "quay/.draft.md", ".git/hook.md"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text("text")
    (made / "folder.md").mkdir()
    (made / "out.md").symlink_to(outside)
    (made / "again.md").symlink_to(made / "leave.md")
    (made / "circle.md").symlink_to(made / "circle.md")
    (made / "gone.md").symlink_to(made / "nothing.md")
    os.mkfifo(made / "pipe.md")
    return made


def test_files_of_the_folder_itself_are_found_and_links_out_of_it_are_not(folder: Path) -> None:
    there = below(folder, Selection())
    assert [file.relative for file in there.files] == ["again.md", "leave.md", "quay/storms.txt"]
    assert there.left_out == ("quay/gate.step",)
    assert there.files[1].stamp == there.files[0].stamp


def test_what_globs_take_or_leave_is_nothing_that_an_ending_left_out(folder: Path) -> None:
    drawings = below(folder, Selection(include=("*.step",)))
    assert [[file.relative for file in drawings.files], drawings.left_out] == [["quay/gate.step"], ()]
    assert below(folder, Selection(exclude=("*.step",))).left_out == ()
    rest = below(folder, Selection(exclude=("quay",)))
    assert [[file.relative for file in rest.files], rest.left_out] == [["again.md", "leave.md"], ()]


class Shelf:
    """Documents that are put, and kept here."""

    def __init__(self) -> None:
        self.held: list[Document] = []

    async def list(self, collection: str) -> AsyncIterator[Document]:
        """Those that there are."""
        for document in self.held:
            yield document

    async def add(self, path: Path, **options: Any) -> Document:
        """One more."""
        told = {
            it.name: options.get(it.name, "") for it in fields(Document) if it.default is it.default_factory is MISSING
        }
        self.held.append(Document(**told))
        return self.held[-1]


async def test_a_pass_looks_through_its_folder_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[Path] = []
    walk = os.walk

    def counted(top: Path, *more: Any) -> Any:
        walks.append(top)
        return walk(top, *more)

    monkeypatch.setattr(os, "walk", counted)
    passes = FolderPasses(cast("Documents", Shelf()), cast("Collections", None), Place(folder, "handbook"))
    report = await passes.bring(prune=True)
    assert walks == [folder]
    assert [document.document for document in report.stored] == ["again.md", "leave.md", "quay/storms.txt"]
    assert report.left_out == ("quay/gate.step",)
