"""How the libraries are to behave in a process that trains: nothing is asked of a network, no foreign code is loaded.

Invariant: `prepare` is called before transformers, peft or TRL are imported.
"""

import logging
import os
import sys
from typing import Any


def prepare() -> None:
    """Keep the libraries from reaching out, and from warning of what is wanted so.

    bitsandbytes would fetch compiled code from a hub when the package `kernels` is there; its own library does as well.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    if "kernels" not in sys.modules:
        # None makes its import fail, installed or not.
        modules: dict[str, Any] = sys.modules
        modules["kernels"] = None
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
