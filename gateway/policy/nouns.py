"""A tenant's content policy, what is judged under it, and what its server says."""

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from gateway.generation import Message, ToolCall, ToolUse


class AnswerCheck(Enum):
    """How much of an answer is judged at a time."""

    PIECES = "pieces"
    WHOLE = "whole"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Who judges, at ``endpoint`` (host:port), and how; ``fail_open`` lets pass what nobody judged."""

    endpoint: str
    timeout_seconds: float
    fail_open: bool = False
    prompts: bool = True
    answers: AnswerCheck = AnswerCheck.PIECES


@dataclass(frozen=True, slots=True)
class Asked:
    """On whose behalf a model is asked."""

    tenant: str
    principal: str
    request_id: str
    model: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a caller wrote."""

    asked: Asked
    messages: tuple[Message, ...]
    tools: ToolUse | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of answer number ``choice`` before it leaves; ``before`` is the end of what has left, ``last`` the answer's end."""

    asked: Asked
    text: str
    choice: int = 0
    before: str = ""
    calls: tuple[ToolCall, ...] = ()
    last: bool = False


@dataclass(frozen=True, slots=True)
class Allow:
    """It passes."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request ends; the reason is told."""

    reason: str


@dataclass(frozen=True, slots=True)
class Replace:
    """Another text takes its place; the reason is told."""

    text: str
    reason: str


Verdict = Allow | Refuse | Replace


class UnjudgedError(Exception):
    """There is no verdict; the text says why, to callers."""


class Judge(Protocol):
    """The servers of content policies.  Raises UnjudgedError."""

    async def prompt(self, policy: ContentPolicy, prompt: Prompt) -> Verdict:
        """What becomes of a prompt."""

    async def part(self, policy: ContentPolicy, part: Part) -> Verdict:
        """What becomes of a part of an answer."""
