"""Packages of Node are installed once for a lock, whole or not at all, and the lock names no place to get them from."""

import json
import subprocess
from pathlib import Path

import pytest

from services.ops import nodetools
from tests.node_flows import FLOWS

NPM = """#!/bin/sh
[ -z "$BREAKS" ] || exit 1
mkdir node_modules
cp package-lock.json node_modules/of
echo "$@" >> "$ASKED"
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What an npm of ours was asked, a line each time."""
    npm = tmp_path / "npm"
    npm.write_text(NPM)
    npm.chmod(0o755)
    monkeypatch.setattr(nodetools, "executable", lambda _: npm)
    monkeypatch.setenv("TRIVIUM_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.delenv("BREAKS", raising=False)
    return tmp_path / "asked"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "programs"
    made.mkdir()
    for name in nodetools.READ:
        (made / name).write_text("{}")
    return made


def test_a_lock_is_installed_once_and_another_one_beside_it(asked: Path, folder: Path) -> None:
    first = nodetools.installed(folder)
    assert nodetools.installed(folder) == first
    assert len(asked.read_text().splitlines()) == 1
    (folder / "package-lock.json").write_text("other")
    other = nodetools.installed(folder)
    assert [(each / "node_modules" / "of").read_text() for each in (first, other)] == ["{}", "other"]
    assert "--ignore-scripts" in asked.read_text()


def test_what_was_not_finished_is_not_there(asked: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAKS", "yes")
    with pytest.raises(subprocess.CalledProcessError):
        nodetools.installed(folder)
    monkeypatch.delenv("BREAKS")
    assert (nodetools.installed(folder) / "node_modules" / "of").exists()
    assert len(list((asked.parent / "cache" / "node").iterdir())) == 1


def test_the_lock_names_every_package_by_version_and_digest_and_no_address_of_it() -> None:
    packages = json.loads((FLOWS / "package-lock.json").read_text())["packages"]
    wanted = packages.pop("")["dependencies"]
    assert {name.removeprefix("node_modules/") for name in packages} >= set(wanted) == {"openai", "zod"}
    for package in packages.values():
        assert package["version"]
        assert package["integrity"].startswith("sha512-")
        assert "resolved" not in package
    assert "omit-lockfile-registry-resolved=true" in (FLOWS / ".npmrc").read_text()
