"""Log files: kept under a size without losing a line, followed across rotations."""

from pathlib import Path

from services.ops.supervisor.logfiles import Follower, LogFile, tail


def test_a_full_file_is_rotated_and_the_oldest_forgotten(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "access.log", limit_bytes=30, kept=2)
    for number in range(12):
        log.append(f"line {number:04}\n".encode())
    kept = [path.name for path in sorted(tmp_path.iterdir())]
    assert kept == ["access.log.1", "access.log.2"]
    assert (tmp_path / "access.log.1").read_text().splitlines() == ["line 0009", "line 0010", "line 0011"]


def test_a_file_is_not_cut_inside_a_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "access.log", limit_bytes=10, kept=2)
    log.append(b"a line longer than the")
    log.append(b" limit\n")
    assert (tmp_path / "access.log.1").read_text() == "a line longer than the limit\n"


def test_the_tail_is_the_last_lines_and_nothing_for_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert tail(path, 3) == []
    path.write_text("1\n2\n3\n4\n")
    assert tail(path, 3) == ["2", "3", "4"]


def test_a_follower_sees_whole_lines_across_a_rotation(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "access.log", limit_bytes=10, kept=2)
    log.append(b"before\n")
    follower = Follower(log.path)
    log.append(b"half")
    assert list(follower.fresh()) == []
    log.append(b" a line\n")
    log.append(b"new file\n")
    assert "new file" in list(follower.fresh())
