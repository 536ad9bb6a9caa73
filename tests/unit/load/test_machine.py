"""A figure's hardware is told by the processor's name and by what it multiplies bf16 with."""

import platform
from pathlib import Path

import psutil
import pytest

from tests.load.machine import hardware

NAMED = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Processor\nflags\t\t: fpu"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("avx512f avx512_bf16 amx_bf16 amx_tile", "with avx512_bf16, with amx_bf16"),
        ("avx512f avx512_bf16", "with avx512_bf16, without amx_bf16"),
        # No word but the whole one.
        ("avx2 amx_bf16_like", "without avx512_bf16, without amx_bf16"),
    ],
)
def test_it_is_the_name_and_whether_there_is_bf16_in_hardware(tmp_path: Path, flags: str, told: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"{NAMED} {flags}\n")
    expected = f"{psutil.cpu_count()} x Intel(R) Xeon(R) Processor, {told}"
    assert hardware(tmp_path / "cpuinfo") == expected


def test_where_the_system_has_no_name_for_it_the_kind_of_machine_is_told(tmp_path: Path) -> None:
    expected = f"{psutil.cpu_count()} x {platform.machine()}, without avx512_bf16, without amx_bf16"
    assert hardware(tmp_path / "nowhere") == expected
