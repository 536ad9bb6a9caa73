"""What a process of ours that reads a tenant's files finds in its environment.

Invariant: nothing of the trainer's own, which holds the addresses and passwords of its database and its bucket.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        # What pyarrow unpacks counts as what it is, and nothing is kept for later.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }
)
