"""Chat templates that say themselves what the assistant says.

Marks in a template are exact where finding the spans by rendering must trust that a longer conversation continues a
shorter one; and rendering once beats rendering once a turn.  Invariant: a template of a base's own is never handed to
a library that would render it outside of an encoder's limits.
"""

import importlib.util
import re
from functools import cache
from pathlib import Path
from typing import Any

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def training_template(tokenizer: Any) -> str | None:
    """Return the template to train with: TRL's where it has one for the tokenizer's, or its own if it has marks.

    None: what the assistant says is to be found by rendering.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return None
    # TRL takes seconds to import: it is asked only about a template that is one of its own.
    if template in _known():
        from trl.chat_template_utils import get_training_chat_template

        try:
            found: str | None = get_training_chat_template(tokenizer) or template
        except ValueError:
            # Known, and without a variant for training.
            found = None
        return found
    return template if _MARKS.search(template) else None


@cache
def _known() -> frozenset[str]:
    """The templates that TRL ships."""
    spec = importlib.util.find_spec("trl")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return frozenset(path.read_text(encoding="utf-8") for path in folder.glob("*.jinja"))
