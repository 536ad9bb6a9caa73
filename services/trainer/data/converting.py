"""From a record of a file to a row, or to what is wrong with it.

Invariant: a row that comes out of here can be trained on; every record that cannot raises Malformed, which names the
field concerned and what to do.
"""

from collections.abc import Mapping, Sequence

from services.trainer.data.rows import (
    FIELDS,
    MAX_DEPTH,
    AnyRow,
    Format,
    Judgement,
    Labelled,
    Malformed,
    Preference,
    Row,
    Text,
    Turn,
    kind_of,
    named,
    whole,
)
from services.trainer.data.tools import Offered, offered_of
from services.trainer.data.turns import answered, filled, messages, turns_of

# A pair as OpenAI's files name its three parts.
_INPUT, _PREFERRED, _NOT_PREFERRED = _PAIR = ("input", "preferred_output", "non_preferred_output")
_SHAPES = (
    'the row needs "messages", or "prompt" and "completion", or "text", or "chosen" and "rejected", or "input", '
    '"preferred_output" and "non_preferred_output"'
)


def recognised(fields: Mapping[str, object]) -> Format:
    """Return the format that the record's field names mean.  Raises Malformed."""
    if any(name in fields for name in ("chosen", "rejected", _PREFERRED, _NOT_PREFERRED)):
        return Format.PREFERENCE
    if "messages" in fields:
        return Format.CHAT
    if "prompt" in fields or "completion" in fields:
        return Format.UNPAIRED_PREFERENCE if "label" in fields else Format.PROMPT_COMPLETION
    if "text" in fields:
        return Format.RECORDS if "label" in fields or "output" in fields else Format.TEXT
    if {"question", "context", "answer"} <= fields.keys():
        return Format.RECORDS
    raise Malformed("", f"{_SHAPES}; its fields are: {named(list(fields))}{_hint(fields)}")


def _hint(fields: Mapping[str, object]) -> str:
    """What to do with fields of other names, where there are two that may be a question and its answer."""
    if {"question", "answer"} <= fields.keys():
        return (
            "; rename question to prompt and answer to completion, or add a context for the recipe answer-from-context"
        )
    return "; rename what is asked to prompt and what is answered to completion" if len(fields) > 1 else ""


def row_of(line: int, fields: Mapping[str, object], kind: Format) -> AnyRow:
    """Return the record as a row of the format `kind`.  Raises Malformed."""
    if kind is Format.TEXT:
        return Text(line, filled(fields["text"], "text"))
    if kind is Format.RECORDS:
        return _labelled(line, fields)
    if kind is Format.PREFERENCE and (_PREFERRED in fields or _NOT_PREFERRED in fields):
        return _preferred(line, fields)
    offered = offered_of(fields)
    if kind is Format.CHAT:
        return Row(line, answered(messages(fields["messages"], "messages", offered)), offered.tools)
    if kind is Format.PROMPT_COMPLETION:
        prompt, completion = _prompted(fields, offered)
        return Row(line, answered(prompt + completion), offered.tools)
    if kind is Format.UNPAIRED_PREFERENCE:
        return _judgement(line, fields, offered)
    return _preference(line, fields, offered)


def _prompted(fields: Mapping[str, object], offered: Offered) -> tuple[tuple[Turn, ...], tuple[Turn, ...]]:
    if "completion" not in fields:
        raise Malformed("completion", 'the row has a "prompt" and no "completion"; add what should be answered')
    if "prompt" not in fields:
        raise Malformed("prompt", 'the row has a "completion" and no "prompt"; add what is answered')
    prompt = turns_of(fields["prompt"], "prompt", "user", offered)
    return prompt, turns_of(fields["completion"], "completion", "assistant", offered)


def _judgement(line: int, fields: Mapping[str, object], offered: Offered) -> Judgement:
    prompt, completion = _prompted(fields, offered)
    label = fields["label"]
    if not isinstance(label, bool):
        raise Malformed(
            "label", f"the label must be true or false, this is {kind_of(label)}; true is for a good answer"
        )
    answered(prompt + completion, said_from=len(prompt))
    return Judgement(line, prompt, completion, label, offered.tools)


def _preference(line: int, fields: Mapping[str, object], offered: Offered) -> Preference:
    for side, other in (("chosen", "rejected"), ("rejected", "chosen")):
        if side not in fields:
            raise Malformed(side, f'the row has "{other}" and no "{side}"; a pair needs both')
    prompt = turns_of(fields["prompt"], "prompt", "user", offered) if "prompt" in fields else ()
    chosen = turns_of(fields["chosen"], "chosen", "assistant", offered.after())
    rejected = turns_of(fields["rejected"], "rejected", "assistant", offered.after())
    if "prompt" in fields:
        # Some sets repeat the prompt's messages in front of both answers.
        if chosen[: len(prompt)] == prompt == rejected[: len(prompt)]:
            chosen, rejected = chosen[len(prompt) :], rejected[len(prompt) :]
    else:
        prompt, chosen, rejected = _shared(fields, chosen, rejected)
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns:
            raise Malformed(side, f"nothing follows the prompt in {side}; write the answer or drop the row")
        answered(prompt + turns, field=side, said_from=len(prompt))
    return Preference(line, prompt, chosen, rejected, offered.tools)


def _preferred(line: int, fields: Mapping[str, object]) -> Preference:
    """A pair in OpenAI's shape, whose prompt stands in an object with the tools that it has."""
    for name in _PAIR:
        if name not in fields:
            raise Malformed(name, f"a pair in this shape has {', '.join(_PAIR)}; add {name}")
    asked = fields[_INPUT]
    if not isinstance(asked, dict):
        raise Malformed(_INPUT, f'the input is an object {{"messages": […]}}, this is {kind_of(asked)}')
    if offered_of(fields).tools:
        raise Malformed(
            "tools", f"a pair in this shape has its tools in {_INPUT}, beside the messages; move them there"
        )
    offered = offered_of(asked, f"{_INPUT}.")
    prompt = messages(asked.get("messages"), f"{_INPUT}.messages", offered)
    better, worse = (messages(fields[name], name, offered.after()) for name in (_PREFERRED, _NOT_PREFERRED))
    for name, answer in ((_PREFERRED, better), (_NOT_PREFERRED, worse)):
        answered(prompt + answer, field=name, said_from=len(prompt))
    return Preference(line, prompt, better, worse, offered.tools)


def _shared(
    fields: Mapping[str, object], chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]
) -> tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]:
    """The prompt that both sides begin with, and the rest of each; of texts, up to the last whole word (as in TRL)."""
    first, second = fields["chosen"], fields["rejected"]
    if isinstance(first, str) and isinstance(second, str):
        length = _common(first, second)
        while 0 < length < max(len(first), len(second)) and not first[length - 1].isspace():
            length -= 1
        shared, ends = first[:length].strip(), (first[length:].strip(), second[length:].strip())
        if not shared or not all(ends):
            raise Malformed("prompt", 'chosen and rejected do not share a beginning to answer to; add a "prompt"')
        return (Turn("user", shared),), (Turn("assistant", ends[0]),), (Turn("assistant", ends[1]),)
    length = min(_common(chosen, rejected), len(chosen) - 1, len(rejected) - 1)
    # A prompt ends before an answer, also where both sides give the same one.
    while length and chosen[length - 1].role == "assistant":
        length -= 1
    if not length:
        raise Malformed("prompt", 'chosen and rejected do not begin with the same messages; add a "prompt"')
    return chosen[:length], chosen[length:], rejected[length:]


def _common(first: Sequence[object], second: Sequence[object]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (ours, theirs) in pairs if ours != theirs), min(len(first), len(second)))


def _labelled(line: int, fields: Mapping[str, object]) -> Labelled:
    kept = {name: fields[name] for name in FIELDS if name in fields}
    names = ("text",) if "text" in kept else ("question", "answer")
    for name in names:
        filled(kept[name], name)
    if "label" in kept and not (isinstance(kept["label"], bool | int) or filled(kept["label"], "label")):
        raise Malformed("label", f"the label must be a text or a whole number, this is {kind_of(kept['label'])}")
    if "output" in kept and not isinstance(kept["output"], dict | list | str):
        raise Malformed("output", f"the output must be an object, this is {kind_of(kept['output'])}")
    if "output" in kept and not _shallow(kept["output"], MAX_DEPTH):
        raise Malformed("output", f"the output is nested deeper than {MAX_DEPTH}; flatten it")
    if "context" in kept:
        _context(kept["context"])
    return Labelled(line, kept)


def _context(value: object) -> None:
    for index, entry in enumerate(value) if isinstance(value, list) else [(None, value)]:
        field = "context" if index is None else f"context[{index}]"
        if not isinstance(entry, str):
            raise Malformed(field, f"the context must be a text or a list of texts, this is {kind_of(entry)}")
        whole(entry, field)


def _shallow(value: object, depth: int) -> bool:
    entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_shallow(entry, depth - 1) for entry in entries)
