"""Secrets are never readable by others, and never half there."""

import errno
import os
import stat
from pathlib import Path

import pytest

from services.access.secret_files import read_or_create, write_secret


def test_a_secret_is_its_owners_alone_whatever_the_umask(tmp_path: Path):
    former = os.umask(0)
    try:
        write_secret(tmp_path / "keys" / "a.key", b"secret")
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "keys" / "a.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["a.key"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.key"
    write_secret(path, b"first")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError) as failed:
        write_secret(path, b"second")
    assert failed.value.errno == errno.EIO
    assert path.read_bytes() == b"first"
    assert [item.name for item in tmp_path.iterdir()] == ["a.key"]


def test_a_random_secret_is_made_once(tmp_path: Path):
    first = read_or_create(tmp_path / "hashing.key", 32)
    assert len(first) == 32
    assert read_or_create(tmp_path / "hashing.key", 32) == first
