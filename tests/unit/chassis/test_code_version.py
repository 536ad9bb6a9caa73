"""The code names itself: by its version, and in a checkout by its commit and whether that was changed."""

import subprocess
from pathlib import Path

import pytest

from services.chassis.code_version import commit_of


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "one")
    # A tag is somebody's name for it; what is told is the commit.
    git(tmp_path, "tag", "-a", "v1", "-m", "one")
    return tmp_path


def test_a_checkout_tells_its_commit_and_that_it_was_changed(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")[:12]
    assert commit_of(checkout) == head
    (checkout / "code.py").write_text("2\n")
    assert commit_of(checkout) == f"{head}.dirty"


def test_what_is_no_checkout_tells_nothing_also_inside_one(checkout: Path) -> None:
    (checkout / "site-packages").mkdir()
    assert commit_of(checkout / "site-packages") == ""


def test_the_repository_of_a_hook_is_not_taken_for_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    assert len(commit_of(checkout)) == 12


def test_without_git_nobody_can_say(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert commit_of(checkout) == ""
