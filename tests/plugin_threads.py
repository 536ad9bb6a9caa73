"""Torch's threads in the tests' own process sleep while they wait, as those of a trainer's workers do.

Left to itself libgomp spins: a test that computes with two threads on tensors of a few kilobytes then takes twenty
times the processor time that its products take, most of all where others have the cores.  The library reads what it
is told when it is loaded, so it is loaded here, before any conftest imports torch.  Invariant: the environment stays
as it was, since what a service's threads do is for the service to say (`services.chassis.resources`).
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

_SPIN_TURNS = "GOMP_SPINCOUNT"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Load torch's own libgomp with waits that do not spin; do nothing where torch brings none."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None or _SPIN_TURNS in os.environ:
        return
    os.environ[_SPIN_TURNS] = "0"
    try:
        for library in (Path(torch.origin).parent / "lib").glob("libgomp*"):
            ctypes.CDLL(str(library))
    finally:
        del os.environ[_SPIN_TURNS]
