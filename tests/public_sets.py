"""Where the public sets lie that some tests need."""

import os
from pathlib import Path

import pytest

from services.ops.cache import CHECKOUT

_DATA = CHECKOUT.parent / "shared" / "data"


def public_sets() -> Path:
    """The folder of the public sets; without it a person's test skips, and CI's fails."""
    # A worktree may lie deeper than a checkout.
    for folder in (_DATA, *(parent / "shared" / "data" for parent in CHECKOUT.parents)):
        if folder.is_dir():
            return folder
    if os.environ.get("CI"):
        pytest.fail(f"the public sets are not at {_DATA}")
    pytest.skip(f"needs the public sets at {_DATA}")
