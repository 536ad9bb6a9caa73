"""Chat templates of strangers: programs that versions bring along, rendered in limited children.

Invariants: a child renders one template of one tenant and is never given another's; a tenant renders one conversation
at a time, so its slow templates wait for themselves; a child that was interrupted, died or babbled is not asked again.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from services.chassis.errors import Failure, Reason
from services.chassis.processes import Child, say, spawn
from services.generator.conversation import Turn
from services.generator.places import not_ready

TEMPLATE_FILE = "chat_template.jinja"
MAX_TEMPLATE_BYTES = 1 << 20
_PROGRAM = Path(__file__).with_name("template_child.py")
_LINE_BYTES = 32 << 20
_BEYOND = "it does not end within the limits of time and memory"
# It came to its limits, or brought its interpreter to an end.
_OWN_ENDS = frozenset({-signal.SIGPROF, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGXFSZ, 1})


@dataclass(frozen=True, slots=True)
class BroughtTemplate:
    """A template for a tenant's conversations: ``digest`` (sha256:…) of its text, which ``read`` gets; it blocks."""

    tenant: str
    digest: str
    read: Callable[[], str] = field(compare=False)


class _Renderer:
    """One child and the template that it holds; ``close`` may be called at any time."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @classmethod
    async def start(cls, text: str) -> _Renderer:
        """Raises TEMPLATE_UNRENDERABLE for a template that does not compile."""
        pipe = asyncio.subprocess.PIPE
        child = await spawn(
            [sys.executable, "-I", _PROGRAM],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
            cwd=Path("/"),
            stdin=pipe,
            stdout=pipe,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE_BYTES,
        )
        renderer = cls(child)
        try:
            await renderer.told({"template": text})
        except BaseException:
            await asyncio.shield(renderer.close())
            raise
        return renderer

    async def told(self, task: Mapping[str, Any]) -> str:
        """The child's text.  Raises TEMPLATE_UNRENDERABLE with its problem, NOT_READY when somebody else ended it."""
        stdin, stdout = self._child.process.stdin, self._child.process.stdout
        assert stdin is not None
        assert stdout is not None
        line = b""
        with suppress(ConnectionError):
            say(self._child.process, json.dumps(task, ensure_ascii=False).encode() + b"\n")
            await stdin.drain()
            line = await stdout.readline()
        if not line:
            if await self._child.wait() in _OWN_ENDS:
                raise unrenderable(_BEYOND)
            raise not_ready("the rendering of a chat template was interrupted")
        answer = json.loads(line)
        if "problem" in answer:
            raise unrenderable(str(answer["problem"]))
        return str(answer["text"])

    async def close(self) -> None:
        """End the child."""
        if self._child.process.returncode is None:
            await self._child.kill()


class ChatTemplates:
    """The children of the templates that were used last, each started when it is first needed."""

    def __init__(self, *, children: int = 8, seconds: float = 20.0) -> None:
        self._renderers: OrderedDict[tuple[str, str], _Renderer] = OrderedDict()
        self._free = asyncio.Semaphore(children)
        self._children = children
        # Of wall time, for a child that waits for a processor; of processor time it has far less.
        self._seconds = seconds
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def render(
        self,
        template: BroughtTemplate,
        special_tokens: Mapping[str, str],
        turns: Sequence[Turn],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A conversation up to where the assistant speaks next.  Raises TEMPLATE_UNRENDERABLE, NOT_READY."""
        task = {
            "messages": [turn.message for turn in turns],
            "special_tokens": dict(special_tokens),
            "tools": list(tools) or None,
        }
        turn = self._turns.setdefault(template.tenant, asyncio.Lock())
        async with turn, self._free:
            try:
                async with asyncio.timeout(self._seconds):
                    return await self._rendered(template, task)
            except (TimeoutError, ValueError) as error:
                raise not_ready("a chat template could not be rendered") from error

    async def _rendered(self, template: BroughtTemplate, task: Mapping[str, Any]) -> str:
        key = (template.tenant, template.digest)
        # Taken out while it works: what is not put back is not asked again.
        renderer = self._renderers.pop(key, None)
        if renderer is None:
            renderer = await _Renderer.start(await asyncio.to_thread(_text_of, template))
        whole = False
        try:
            text = await renderer.told(task)
            whole = True
        except Failure as failure:
            whole = failure.reason is Reason.TEMPLATE_UNRENDERABLE and failure.variables["problem"] != _BEYOND
            raise
        finally:
            if whole:
                await self._keep(key, renderer)
            else:
                await asyncio.shield(renderer.close())
        return text

    async def _keep(self, key: tuple[str, str], renderer: _Renderer) -> None:
        self._renderers[key] = renderer
        while len(self._renderers) > self._children:
            _, oldest = self._renderers.popitem(last=False)
            await asyncio.shield(oldest.close())

    async def close(self) -> None:
        """End the children."""
        while self._renderers:
            _, renderer = self._renderers.popitem()
            await renderer.close()


def _text_of(template: BroughtTemplate) -> str:
    try:
        return template.read()
    except UnicodeDecodeError as error:
        raise unrenderable("it is not UTF-8") from error


def unrenderable(problem: str) -> Failure:
    """The failure of a conversation that a chat template does not take."""
    return Failure(Reason.TEMPLATE_UNRENDERABLE, problem=problem)
