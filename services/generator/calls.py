"""Calls of tools read out of an answer's text while it comes.

Invariants: text is either given out as text or is part of a call, none is lost: what turns out to be no call of a tool
that was offered is text after all.  Each character is looked at once.  Arguments are passed on as the model writes them;
whether they are JSON in the end is the model's affair, unless the engine was held to it.
"""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from services.generator.conversation import CallDelta
from services.generator.engine import Finish, Piece
from services.generator.tools import CallForm, ToolUse

_PYTHON_TAG = "<|python_tag|>"
_ID_LETTERS = string.ascii_letters + string.digits
# Between the calls of one frame, and around them.
_BETWEEN = " \t\r\n,;[]"


@dataclass(slots=True)
class _Object:
    """One call's JSON object while it is read: where its name and its arguments stand."""

    keys: tuple[str, ...]
    raw: str = ""
    name: str | None = None
    # What of the arguments was read and not told yet.
    pending: str = ""
    argued: bool = False
    depth: int = 0
    _quoted: bool = False
    _escaped: bool = False
    _key: str = ""
    _value: str | None = None

    def read(self, character: str) -> bool:
        """Take one more character in; True when the object has ended."""
        self.raw += character
        if self._quoted:
            self._in_quotes(character)
            return False
        if character == '"':
            self._quoted = True
        if character in "}]":
            self.depth -= 1
        ends = (self.depth == 0 and character in "}]") or (self.depth == 1 and character == ",")
        if ends:
            self._end_value()
        elif self.depth == 1 and character == ":" and self._value is None:
            self._key, self._value = self._text(self._key), ""
        else:
            self._keep(character)
        if character in "{[":
            self.depth += 1
            if self.depth == 1:
                self._key = ""
        return self.depth == 0

    def _in_quotes(self, character: str) -> None:
        self._keep(character)
        if self._escaped:
            self._escaped = False
        elif character == "\\":
            self._escaped = True
        elif character == '"':
            self._quoted = False

    def _keep(self, character: str) -> None:
        if self._value is None:
            self._key += character
            return
        if not self._value and character.isspace():
            return
        self._value += character
        # Arguments that are told as a string are JSON inside of JSON: they are told whole, when it has ended.
        if self._key in self.keys and not self._value.startswith('"'):
            self.pending += character
            self.argued = True

    def _end_value(self) -> None:
        value, self._value = self._value or "", None
        if self._key == "name":
            self.name = self._text(value)
        elif self._key in self.keys and value.startswith('"'):
            self.pending += self._text(value)
            self.argued = True
        self._key = ""

    def _text(self, written: str) -> str:
        try:
            return str(json.loads(written))
        except ValueError:
            return ""


@dataclass(slots=True)
class Reader:
    """Reads one answer.  ``inside`` begins behind the opening, where the engine was held to a list alone."""

    form: CallForm
    names: frozenset[str]
    new_id: Callable[[], str]
    inside: bool = False
    calls: int = 0
    _held: str = ""
    _object: _Object | None = None
    _told: bool = False
    _plain: bool = False
    _text: list[str] = field(default_factory=list)
    _deltas: list[CallDelta] = field(default_factory=list)

    def read(self, text: str) -> tuple[str, tuple[CallDelta, ...]]:
        """What more of the text makes: text, and parts of calls."""
        for character in text:
            if self._object is not None:
                self._in_object(character)
            elif self.inside:
                self._between(character)
            else:
                self._outside(character)
        return self._taken()

    def end(self) -> tuple[str, tuple[CallDelta, ...]]:
        """What is left when the answer has ended: what was held back because it might have become a call."""
        if self._object is not None and not self._told:
            self._held += self._object.raw
            self._object = None
        if not self._is_rest_of_closing() and (self._held.strip() or not self.calls):
            self._text.append(self._held)
        self._held = ""
        return self._taken()

    def _is_rest_of_closing(self) -> bool:
        """Whether what is held is the beginning of a closing that the answer's end cut."""
        return self.inside and self.form.closing.strip().startswith(self._held.strip())

    def _taken(self) -> tuple[str, tuple[CallDelta, ...]]:
        told = "".join(self._text), tuple(self._deltas)
        self._text.clear()
        self._deltas.clear()
        return told

    def _outside(self, character: str) -> None:
        """Wait for the opening: what may be its beginning is held back, and so is white space behind a call."""
        if self._plain:
            self._text.append(character)
            return
        self._held += character
        if not self.form.opening:
            self._at_the_start(character)
            return
        mark = self.form.opening.strip()
        if self._held.endswith(mark):
            before = self._held.removesuffix(mark)
            self._say(before.rstrip())
            # White space before a call goes with it, and before what is none stays.
            self._held = before[len(before.rstrip()) :] + mark
            self.inside = True
            return
        keep = max((size for size in range(1, len(mark)) if self._held.endswith(mark[:size])), default=0)
        settled = self._held[: len(self._held) - keep]
        if settled.strip():
            self._text.append(settled)
            self._held = self._held[len(settled) :]

    def _at_the_start(self, character: str) -> None:
        begun = self._held.lstrip(_BETWEEN if self.calls else None)
        if begun.startswith(_PYTHON_TAG):
            begun = begun.removeprefix(_PYTHON_TAG).lstrip()
        if begun == "{":
            self._held = self._held.removesuffix("{")
            self._begin(character)
        elif begun and not _PYTHON_TAG.startswith(begun):
            self._plain = True
            self._say(self._held)

    def _between(self, character: str) -> None:
        """Behind the opening: the next object, the closing, or what is no call."""
        if character == "{":
            self._begin(character)
            return
        mark, closing = self.form.opening.strip(), self.form.closing.strip()
        self._held += character
        begun = self._held.lstrip().removeprefix(mark).lstrip(_BETWEEN)
        if (closing and begun == closing) or (self.form.listed and character == "]"):
            # A frame without a call in it is no frame.
            self._say(self._held if self._held.lstrip().startswith(mark) else "")
            self.inside = False
        elif begun and not (closing and closing.startswith(begun)):
            self._give_up()

    def _begin(self, character: str) -> None:
        self._object, self._told = _Object((self.form.arguments, "arguments", "parameters")), False
        self._object.read(character)

    def _in_object(self, character: str) -> None:
        assert self._object is not None
        ended = self._object.read(character)
        name = self._object.name
        if not self._told and name is not None:
            if name not in self.names:
                self._held += self._object.raw
                self._object = None
                self._give_up()
                return
            if self._object.pending or ended:
                self._tell_name(name)
        if self._told and self._object.pending:
            self._deltas.append(CallDelta(self.calls - 1, arguments=self._object.pending))
            self._object.pending = ""
        if ended and self._told and not self._object.argued:
            self._deltas.append(CallDelta(self.calls - 1, arguments="{}"))
        if ended:
            self._end_object()

    def _tell_name(self, name: str) -> None:
        self._told = True
        self._held = ""
        self._deltas.append(CallDelta(self.calls, self.new_id(), name))
        self.calls += 1

    def _end_object(self) -> None:
        assert self._object is not None
        if not self._told:
            self._held += self._object.raw
        self._object, told = None, self._told
        if not told:
            self._give_up()

    def _give_up(self) -> None:
        """What was begun is no call: it is text, and so is what follows up to the next opening."""
        self._say(self._held)
        self.inside = False
        self._plain = not self.form.opening

    def _say(self, text: str) -> None:
        if text.strip():
            self._text.append(text)
        self._held = ""


def _new_id() -> str:
    """Nine letters and digits: the templates of some models take no other id."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(9))


class Readers:
    """The readers of all answers to one prompt, each from its first piece to its last."""

    def __init__(self, form: CallForm, use: ToolUse, answers: int, new_id: Callable[[], str] = _new_id) -> None:
        inside = form.listed and use.forced
        self._readers = [Reader(form, use.callable_names, new_id, inside=inside) for _ in range(answers)]

    def read(self, piece: Piece) -> Piece:
        """The piece with its calls in their own place; the answer's end says whether there were any."""
        reader = self._readers[piece.choice]
        text, calls = reader.read(piece.text)
        finish = piece.finish
        if finish is not None:
            rest, more = reader.end()
            text, calls = text + rest, calls + more
            if finish is Finish.STOP and reader.calls:
                finish = Finish.TOOL_CALLS
        return replace(piece, text=text, calls=calls, finish=finish)
