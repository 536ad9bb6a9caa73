"""Which requests do well to go to one replica: those that begin alike, for it has read their beginning."""

import hashlib
from itertools import takewhile

from gateway.generation import Prompt, Speaker, TokenIds
from services.chassis.context import current

# A cached block is a few tokens long: what is alike for less is nothing that a replica could keep.
_LEAST_CHARACTERS = 64


def affinity(prompt: Prompt, sticky_key: str, version: str) -> str:
    """The key of a prompt: of a conversation, however long it has become, its turns up to the first of the user's.

    A ``sticky_key`` is one by itself.  Empty where there is too little that could be shared.  Nothing of the prompt can
    be read from it, and no two tenants have the same.
    """
    if sticky_key:
        beginning = sticky_key
    elif isinstance(prompt, str | TokenIds):
        beginning = ""
    else:
        instructions = list(takewhile(lambda turn: turn.speaker is not Speaker.USER, prompt))
        opening = prompt[: len(instructions) + 1]
        beginning = "\0".join(f"{turn.speaker.value}:{turn.content}" for turn in opening)
        beginning = beginning if len(beginning) >= _LEAST_CHARACTERS or len(prompt) > len(opening) else ""
    if not beginning:
        return ""
    return hashlib.sha256(f"{current().tenant_id}\0{version}\0{beginning}".encode()).hexdigest()
