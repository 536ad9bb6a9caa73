"""Prompts before a model hears them, and answers before they leave, as the tenant's content policy wants it.

Invariants: where a policy is in force nothing that a model wrote leaves before a verdict let it; a text that was replaced,
or that passed because nobody judged it, is told of in the response.
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace

from gateway.generation import Fallback, Message, Prompts, Several, Speaker, TextDelta, TokenIds, ToolUse
from gateway.leaving import Leaving
from gateway.policy import in_force
from gateway.policy.holding import Held
from gateway.policy.in_force import InForce
from gateway.policy.nouns import Allow, AnswerCheck, Asked, Judge, Part, Prompt, Refuse, Replace, UnjudgedError, Verdict
from gateway.stages import Stopwatch
from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.logs import Log

_RETRY_SECONDS = 1.0
# The stages in which verdicts are waited for.
OF_PROMPT = "policy_prompt"
OF_ANSWER = "policy_answer"


class Policing:
    """Asks for verdicts and does what they say."""

    def __init__(self, judge: Judge, log: Log) -> None:
        self._judge = judge
        self._log = log

    @property
    def prompt_seconds(self) -> float | None:
        """The most that a verdict on a prompt takes; None where no prompt is judged."""
        force = in_force.now()
        return None if force is None or not force.policy.prompts else force.policy.timeout_seconds

    async def replacement(
        self, messages: Sequence[Message], request_id: str, model: str, tools: ToolUse | None = None
    ) -> str | None:
        """Have a prompt judged: the text that takes the place of the user's last turn, None where it passes as it is.

        Raises CONTENT_REFUSED, POLICY_UNAVAILABLE.
        """
        force = in_force.now()
        if force is None or not force.policy.prompts:
            return None
        prompt = Prompt(_asked(request_id, model), tuple(messages), tools)
        verdict = await self._verdict(force, self._judge.prompt(force.policy, prompt), "the prompt")
        if not isinstance(verdict, Replace):
            return None
        force.tell("another prompt", verdict.reason or "the content policy replaced it")
        return verdict.text

    async def admitted(self, prompt: Prompts, request_id: str, model: str, tools: ToolUse | None = None) -> Prompts:
        """A prompt as a model may hear it, or each of several.

        Raises as :meth:`replacement`, FIELD_INVALID for tokens where prompts are judged.
        """
        if isinstance(prompt, Several):
            # One after another: of several that are refused the first is told.
            return Several(tuple([await self._admitted_raw(one, request_id, model) for one in prompt.prompts]))
        if isinstance(prompt, str | TokenIds):
            return await self._admitted_raw(prompt, request_id, model)
        text = await self.replacement(prompt, request_id, model, tools)
        return prompt if text is None else _with_last_words(prompt, text)

    async def _admitted_raw(self, prompt: str | TokenIds, request_id: str, model: str) -> str | TokenIds:
        if isinstance(prompt, str):
            text = await self.replacement([Message(Speaker.USER, prompt)], request_id, model)
            return prompt if text is None else text
        force = in_force.now()
        if force is not None and force.policy.prompts:
            problem = "holds tokens, and the tenant's content policy reads texts: send the text that they spell"
            raise Failure(Reason.FIELD_INVALID, field="prompts", problem=problem)
        return prompt

    def answers(self, request_id: str, model: str, watch: Stopwatch) -> "Answers | None":
        """The answers to one prompt on their way out, with verdicts timed by ``watch``; None where no policy is in force."""
        force = in_force.now()
        return None if force is None else Answers(self, force, _asked(request_id, model), watch)

    async def said(
        self, pieces: Sequence[str], request_id: str, model: str, watch: Stopwatch
    ) -> tuple[Sequence[str], tuple[Fallback, ...]]:
        """An answer that was there already, as it may leave, and what is to be told.  Raises as :meth:`replacement`."""
        answers = self.answers(request_id, model, watch)
        text = "".join(pieces)
        if answers is None:
            return pieces, ()
        if not text:
            return pieces, answers.told
        judged = await answers.judged(Part(answers.asked, text, last=True))
        return (pieces if judged is None else [judged]), answers.told

    async def untouched(self, text: str, request_id: str, model: str) -> None:
        """Have a text judged that is of use only as it is.  Raises CONTENT_REFUSED also where it would be replaced."""
        said, _ = await self.said([text], request_id, model, Stopwatch(lambda: 0.0))
        if said != [text]:
            raise Failure(Reason.CONTENT_REFUSED, what="the answer", why="it does not leave as the model said it.")

    async def part(self, force: InForce, part: Part) -> str | None:
        """Have a part of an answer judged: what takes the place of its text, None where it leaves as it is."""
        verdict = await self._verdict(force, self._judge.part(force.policy, part), "the answer")
        if not isinstance(verdict, Replace):
            return None
        force.tell("another text in the answer", verdict.reason or "the content policy replaced it")
        return verdict.text

    async def _verdict(self, force: InForce, judging: Awaitable[Verdict], what: str) -> Verdict:
        try:
            verdict = await judging
        except UnjudgedError as error:
            self._log.warning("content_unjudged", endpoint=force.policy.endpoint, why=str(error))
            if not force.policy.fail_open:
                raise Failure(Reason.POLICY_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS) from error
            force.tell(f"{what} without a verdict of the content policy", str(error))
            return Allow()
        if isinstance(verdict, Refuse):
            raise Failure(Reason.CONTENT_REFUSED, what=what, why=verdict.reason or "it gives no reason.")
        return verdict


class Answers:
    """The answers to one prompt, held until they are judged: by the sentence, or whole.

    ``leaving`` is what hears when the first of them leaves; None where nothing is held.
    """

    def __init__(self, policing: Policing, force: InForce, asked: Asked, watch: Stopwatch) -> None:
        self._policing = policing
        self._watch = watch
        self._characters = 0
        self._force = force
        self._check = force.policy.answers
        self._held: dict[int, Held] = {}
        self.leaving = None if self._check is AnswerCheck.NONE else Leaving()
        self.asked = asked

    @property
    def told(self) -> tuple[Fallback, ...]:
        """What was done under the policy so far that the caller is to be told."""
        return self._force.told

    async def judged(self, part: Part) -> str | None:
        """What takes the place of a part's text, None where it leaves as it is."""
        if self._check is AnswerCheck.NONE:
            return None
        self._characters += len(part.text)
        with self._watch.stage(OF_ANSWER) as stage:
            stage.input_size = self._characters
            return await self._policing.part(self._force, part)

    async def push(self, delta: TextDelta) -> AsyncIterator[TextDelta]:
        """What leaves with this piece."""
        if self._check is AnswerCheck.NONE:
            yield delta
            return
        held = self._held.setdefault(delta.choice, Held(delta.choice))
        held.add(delta)
        if self._check is AnswerCheck.WHOLE:
            return
        ready = held.ready
        if ready:
            part = Part(self.asked, held.text[:ready], delta.choice, held.before)
            taken = held.take(ready)
            yield self._leaving(held, taken, await self.judged(part))

    async def finish(self) -> AsyncIterator[TextDelta]:
        """What leaves when nothing more comes."""
        for choice, held in self._held.items():
            if held.empty:
                continue
            text = None
            if held.text or held.calls:
                part = Part(self.asked, held.text, choice, held.before, held.calls, last=True)
                text = await self.judged(part)
            yield self._leaving(held, held.take_all(), text)

    def _leaving(self, held: Held, taken: TextDelta, text: str | None) -> TextDelta:
        if text is not None:
            # The probabilities of tokens would tell what they were.
            taken = replace(taken, text=text, logprobs=())
        held.left(taken.text)
        if self.leaving is not None:
            self.leaving.begins()
        return taken


def _asked(request_id: str, model: str) -> Asked:
    caller = current()
    return Asked(caller.tenant_id, caller.principal_id, request_id, model)


def _with_last_words(turns: Sequence[Message], text: str) -> list[Message]:
    users = [place for place, turn in enumerate(turns) if turn.speaker is Speaker.USER]
    last = users[-1] if users else len(turns) - 1
    return [replace(turn, content=text) if place == last else turn for place, turn in enumerate(turns)]
