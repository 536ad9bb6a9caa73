"""Where things live that are costly to make and safe to delete.

Nothing built or downloaded is kept inside the checkout: it stays small, and two
checkouts of one machine share what they can.  Imported by the set-up before any
dependency exists, so this module and its neighbours bootstrap, gotools, lock and
setup use the standard library only.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Return the cache folder: TRIVIUM_CACHE_DIR, else ~/.cache/trivium.  Creates nothing."""
    chosen = os.environ.get("TRIVIUM_CACHE_DIR") or "~/.cache/trivium"
    return Path(chosen).expanduser().resolve()


def venv_dir() -> Path:
    """Return this checkout's virtual environment; `.venv` links to it."""
    digest = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]
    return cache_dir() / "venvs" / digest
