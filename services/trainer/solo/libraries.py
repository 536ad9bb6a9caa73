"""How the libraries are to behave in a process that trains: nothing is asked of a network, no foreign code is loaded.

Invariant: `prepare` is called before transformers, peft or TRL are imported.
"""

import logging
import os

from services.chassis.child_side import leave_out


def prepare() -> None:
    """Keep the libraries from reaching out, and from warning of what is wanted so.

    bitsandbytes would fetch compiled code from a hub when the package `kernels` is there; its own library does as well.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    leave_out("kernels")
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
