"""JSON from an upload, bounded before it is parsed: what it costs to refuse is our choice, not the uploader's.

A parser makes an object of every bracket and of what stands between commas; both are
counted in the raw bytes, at the speed of memory, before it may begin.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from services.registry.inspection import Unfit

MAX_JSON_BYTES = 64 * 1024 * 1024
# Of one version together.  The largest vocabularies of today have about a million entries with their merges.
MAX_CONTAINERS = 1_000_000
MAX_ITEMS = 3_000_000
# A configuration says little: PEFT's has some dozen keys, and a pattern an entry for each module at most.
MAX_CONFIG_BYTES = 4 * 1024 * 1024


def containers_of(raw: bytes) -> int:
    """How many objects and lists JSON text can make at most."""
    return raw.count(b"{") + raw.count(b"[")


def parse_all(files: Mapping[str, Path]) -> dict[str, object]:
    """The content of JSON files by name.  Raises Unfit for what is too large or no JSON."""
    left_bytes, left_containers, left_items = MAX_JSON_BYTES, MAX_CONTAINERS, MAX_ITEMS
    parsed: dict[str, object] = {}
    for name, path in files.items():
        size_bytes = path.stat().st_size
        limit = MAX_CONFIG_BYTES if name.endswith("config.json") else left_bytes
        if size_bytes > min(limit, left_bytes):
            raise Unfit(f"{name} has {size_bytes} bytes, over the {limit} that its JSON may have")
        raw = path.read_bytes()
        left_bytes -= size_bytes
        left_containers -= containers_of(raw)
        left_items -= raw.count(b",")
        if left_containers < 0 or left_items < 0:
            raise Unfit(f"{name} has more lists, objects or entries than a model's JSON has")
        parsed[name] = _parse(name, raw)
    return parsed


def _parse(name: str, raw: bytes) -> object:
    try:
        content: object = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Unfit(f"{name} is not JSON") from None
    return content
