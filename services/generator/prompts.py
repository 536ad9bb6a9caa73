"""From what was asked to token ids: a text, ids, or a conversation put through a chat template.

Which template: the one that the version brings, else the base's.  Invariant: a template that a stranger wrote, a
version's or that of a full model that somebody uploaded, is rendered in a limited child (``templates``); the
deployment's own bases are trusted as their weights are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.generator.asking import Prompt, TokenIds
from services.generator.conversation import Turn, Unrenderable
from services.generator.hosts import Host
from services.generator.residency import StoredAdapter
from services.generator.templates import TEMPLATE_FILE, BroughtTemplate, unrenderable
from services.generator.tools import CALLING, PROBE, SHOWING, CallForm, ToolUse, form_of

_REMEMBERED_FORMS = 256


class Templates(Protocol):
    """Renders conversations by templates of strangers."""

    async def render(
        self,
        template: BroughtTemplate,
        special_tokens: Mapping[str, str],
        turns: Sequence[Turn],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A conversation up to where the assistant speaks next.  Raises TEMPLATE_UNRENDERABLE, NOT_READY."""
        ...


class Prompts:
    """Makes prompts; ``blocking`` runs a function in a thread."""

    def __init__(self, templates: Templates, blocking: Callable[..., Awaitable[Any]]) -> None:
        self._templates = templates
        self._blocking = blocking
        self._forms: OrderedDict[tuple[str, str], CallForm | None] = OrderedDict()

    async def tokens(
        self, prompt: Prompt, host: Host, stored: StoredAdapter | None, tenant: str, tools: ToolUse | None = None
    ) -> list[int]:
        """The prompt's token ids; no engine is started.

        Raises FIELD_INVALID, TEMPLATE_UNRENDERABLE, TOOLS_UNSUPPORTED, NOT_READY.
        """
        if isinstance(prompt, str):
            token_ids: list[int] = await self._blocking(host.tokenizer.text, prompt)
            if not token_ids:
                raise Failure(Reason.FIELD_INVALID, field="text", problem="the model's tokenizer makes nothing of it")
            return token_ids
        if isinstance(prompt, TokenIds):
            require_tokens(host, "token_ids", prompt.ids)
            return list(prompt.ids)
        if tools is not None:
            tools.require_sound()
        if (tools is not None and tools.offered) or any(turn.calls or turn.call_id for turn in prompt):
            await self.form(host, stored, tenant)
        shown = tools.shown() if tools is not None else ()
        text = await self._written(prompt, host, strangers(host, stored, tenant), shown)
        token_ids = await self._blocking(host.tokenizer.rendered, text)
        if not token_ids:
            raise unrenderable("it makes nothing of it")
        return token_ids

    async def form(self, host: Host, stored: StoredAdapter | None, tenant: str) -> CallForm:
        """How the model's chat template writes calls of tools.  Raises TOOLS_UNSUPPORTED, NOT_READY."""
        key = (tenant, template_digest(host, stored))
        if key not in self._forms:
            self._forms[key] = await self._probed(host, strangers(host, stored, tenant))
            while len(self._forms) > _REMEMBERED_FORMS:
                self._forms.popitem(last=False)
        form = self._forms[key]
        if form is None:
            raise Failure(Reason.TOOLS_UNSUPPORTED, field="tool_use")
        return form

    async def _probed(self, host: Host, template: BroughtTemplate | None) -> CallForm | None:
        """The form in which the template writes a call that was made up; None when it does not take one."""
        shown = PROBE.shown()
        try:
            showing, calling = [await self._written(turns, host, template, shown) for turns in (SHOWING, CALLING)]
        except Failure as failure:
            if failure.reason is Reason.TEMPLATE_UNRENDERABLE:
                return None
            raise
        return form_of(showing, calling)

    async def _written(
        self,
        turns: Sequence[Turn],
        host: Host,
        template: BroughtTemplate | None,
        tools: Sequence[Mapping[str, Any]],
    ) -> str:
        try:
            if template is not None:
                return await self._templates.render(template, host.tokenizer.special_tokens, turns, tools)
            return str(await self._blocking(host.tokenizer.written, turns, tools))
        except Unrenderable as error:
            raise unrenderable(str(error).strip().partition("\n")[0][:300]) from error


def strangers(host: Host, stored: StoredAdapter | None, tenant: str) -> BroughtTemplate | None:
    """The template of a conversation when a stranger wrote it; None for that of one of the deployment's bases."""
    if stored is not None and stored.template_digest:
        path = stored.folder / TEMPLATE_FILE
        return BroughtTemplate(tenant, stored.template_digest, lambda: path.read_text("utf-8"))
    if not host.base.public and host.tokenizer.template:
        return BroughtTemplate(tenant, host.tokenizer.template_digest, lambda: host.tokenizer.template)
    return None


def template_digest(host: Host, stored: StoredAdapter | None) -> str:
    """Digest (sha256:…) of the template that conversations are put through."""
    return (stored.template_digest if stored is not None else "") or host.tokenizer.template_digest


def require_tokens(host: Host, field: str, ids: Iterable[int]) -> None:
    """Raise FIELD_INVALID unless all are tokens of the model."""
    if any(not 0 <= token < host.tokenizer.vocabulary for token in ids):
        problem = f"ids lie from 0 to {host.tokenizer.vocabulary - 1}"
        raise Failure(Reason.FIELD_INVALID, field=field, problem=problem)
