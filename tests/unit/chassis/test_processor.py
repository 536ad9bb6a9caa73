"""What the system says of the processor."""

from pathlib import Path

import pytest

from services.chassis.processor import Processor, processor

X86 = """processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2 fma avx avx2 f16c avx512f avx512_bf16 amx_tile xsave

processor\t: 1
vendor_id\t: GenuineIntel
flags\t\t: fpu sse2
"""
ARM = """processor\t: 0
Features\t: fp asimd asimdhp sve bf16 crc32
CPU implementer\t: 0x41
"""


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            X86,
            Processor("GenuineIntel", frozenset(["fma", "avx", "avx2", "f16c", "avx512f", "avx512_bf16", "amx_tile"])),
        ),
        (ARM, Processor("0x41", frozenset({"asimd", "asimdhp", "sve", "bf16"}))),
    ],
    ids=["x86-64", "ARM"],
)
def test_its_vendor_and_instructions_for_vectors_are_read(tmp_path: Path, told: str, expected: Processor) -> None:
    (tmp_path / "cpuinfo").write_text(told)
    assert processor(tmp_path / "cpuinfo") == expected


def test_where_the_system_does_not_tell_the_kind_of_machine_is_all_that_is_known(tmp_path: Path) -> None:
    found = processor(tmp_path / "nowhere")
    assert found.vendor
    assert not found.instructions
