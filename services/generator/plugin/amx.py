"""Permission for the tiles of AMX, asked for before anything needs it.

Linux gives a process these registers on request only.  oneDNN requests them before its first product that uses them;
vLLM's attention does not, and where it comes first (a prompt of one token, a small model) the worker is killed by
SIGILL.
"""

from __future__ import annotations


def install() -> None:
    """Request them for this process and its children; nothing happens where the processor or the system has none."""
    import torch

    torch.cpu._init_amx()
