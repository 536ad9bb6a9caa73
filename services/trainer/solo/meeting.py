"""How the processes that train one job together are told of one another: by their environment.

Invariant: no library is loaded to know which of them this is.
"""

import os

# As torch's own launcher and every other call them.
RANK, SIZE, ADDRESS, PORT = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"


def is_first() -> bool:
    """Whether this one speaks, reads and writes for all of them."""
    return int(os.environ.get(RANK) or 0) == 0


def is_alone() -> bool:
    """Whether there are no others."""
    return int(os.environ.get(SIZE) or 1) == 1
