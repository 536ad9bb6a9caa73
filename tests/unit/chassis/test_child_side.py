"""What a child process gives up it cannot have any more; each is tried in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONFINED = "import sys\nfrom services.chassis import child_side\n"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has the module at hand."""
    return subprocess.run(
        [sys.executable, "-c", CONFINED + program, *arguments], capture_output=True, text=True, check=False
    )


def test_lines_of_ours_and_what_libraries_print_do_not_mix() -> None:
    done = run("""
import os
lines = child_side.own_output()
print("a library's")
sys.stdout.flush()
os.system("echo native")
child_side.write_whole(lines, b"ours" * 100_000)
""")
    assert done.stdout == "ours" * 100_000
    assert done.stderr.split() == ["a", "library's", "native"]


def test_a_module_that_is_left_out_counts_as_not_installed() -> None:
    done = run("""
import json
for module in ("json", "wave"):
    child_side.leave_out(module)
import json
try:
    import wave
except ImportError:
    print("no wave")
""")
    assert done.stdout == "no wave\n"


def test_a_confined_process_writes_no_file(tmp_path: Path) -> None:
    done = run(
        """
child_side.confine()
with open(sys.argv[1], "wb", buffering=0) as file:
    try:
        file.write(b"x")
    except OSError as error:
        print(error.strerror)
""",
        str(tmp_path / "file"),
    )
    assert done.stdout == "File too large\n"
    assert (tmp_path / "file").stat().st_size == 0


@pytest.mark.parametrize("bound", ["child_side.confine(64 << 20)", "child_side.bound_memory(64 << 20)"])
def test_memory_is_bounded_beyond_what_there_was(bound: str) -> None:
    done = run(f"""
before = bytearray(200 << 20)
{bound}
small = bytearray(32 << 20)
try:
    bytearray(64 << 20)
except MemoryError:
    print("no more")
""")
    assert done.stdout == "no more\n"


def test_memory_may_be_bound_anew_but_not_by_a_confined_process() -> None:
    again = run("""
child_side.bound_memory(1 << 20)
child_side.bound_memory(256 << 20)
print(len(bytearray(128 << 20)))
""")
    assert again.stdout == f"{128 << 20}\n"
    confined = run("child_side.confine(1 << 20)\nchild_side.bound_memory(256 << 20)\n")
    assert "ValueError" in confined.stderr


def test_too_much_time_ends_the_process_also_inside_native_code() -> None:
    # One call, far from any place where Python looks for signals.
    done = run('with child_side.processor_time(0.3):\n    9 ** (9 ** 9)\nprint("never")')
    assert done.returncode == -signal.SIGPROF
    assert done.stdout == ""


def test_time_counts_within_its_block_alone() -> None:
    done = run("""
import time
with child_side.processor_time(0.2):
    pass
until = time.process_time() + 0.4
while time.process_time() < until:
    pass
print("there")
""")
    assert done.stdout == "there\n"
