"""The README's curl commands, and the answers that it shows for them."""

import re

from services.ops.cache import CHECKOUT

END = "-- the end of a block --"
# The name of the model that its last lines train.
FINE_TUNED = "ferry@"


def section() -> str:
    """The part of the README that this is about."""
    found = re.search(r"^## With curl\n(.*?)^## ", (CHECKOUT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found
    return found[1]


def blocks() -> list[tuple[str, str]]:
    """Its commands, and what it shows that they answer."""
    return re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", section(), re.DOTALL)
