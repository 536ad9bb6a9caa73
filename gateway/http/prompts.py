"""What a completion goes on with: a text, a list of token ids, or a list of either."""

from collections.abc import Sequence
from typing import Any

from trivium.gateway.v1 import gateway_pb2
from trivium.generator.v1 import generator_pb2

from services.chassis.errors import Failure, Reason

_INT32 = 1 << 31


def of_prompt(given: str | Sequence[object]) -> dict[str, Any]:
    """The fields of CompleteRequest that say the same.  Raises FIELD_INVALID with the place of what is no prompt."""
    if isinstance(given, str):
        return {"prompt": _text(given, "prompt")}
    if given and all(_is_number(part) for part in given):
        return {"prompts": [_tokens(given, "prompt")]}
    if not given:
        raise _refused("prompt", "is empty: send a text, token ids, or a list of either")
    prompts = [_one(part, f"prompt[{place}]") for place, part in enumerate(given)]
    if len(prompts) == 1 and prompts[0].text:
        return {"prompt": prompts[0].text}
    return {"prompts": prompts}


def sent(given: str | Sequence[object]) -> dict[str, str]:
    """How the caller knows the fields in which its prompts go on."""
    listed = not isinstance(given, str) and not all(_is_number(part) for part in given)
    return {
        "prompts": "prompt",
        "text": "prompt",
        "token_ids": "prompt",
        **({"prompts[": "prompt["} if listed else {}),
    }


def _one(part: object, place: str) -> gateway_pb2.RawPrompt:
    if isinstance(part, str):
        return gateway_pb2.RawPrompt(text=_text(part, place))
    if isinstance(part, list):
        return _tokens(part, place)
    raise _refused(place, "must be a text or a list of token ids")


def _text(given: str, place: str) -> str:
    if not given:
        raise _refused(place, "is empty: there is nothing to continue")
    return given


def _tokens(given: Sequence[object], place: str) -> gateway_pb2.RawPrompt:
    if not given:
        raise _refused(place, "is empty: there is nothing to continue")
    ids = [part for part in given if isinstance(part, int) and _is_number(part) and 0 <= part < _INT32]
    if len(ids) < len(given):
        raise _refused(place, "must be a text or a list of token ids, which are whole numbers from 0")
    return gateway_pb2.RawPrompt(token_ids=generator_pb2.TokenIds(ids=ids))


def _is_number(part: object) -> bool:
    # What JSON calls true is a number to Python.
    return isinstance(part, int) and not isinstance(part, bool)


def _refused(place: str, problem: str) -> Failure:
    return Failure(Reason.FIELD_INVALID, field=place, problem=problem)
