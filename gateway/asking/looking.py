"""What is looked for, and where: the question made whole, then passages, a summary, or the index."""

from dataclasses import dataclass, replace

from gateway.asking import rewriting
from gateway.asking.finding import Finder
from gateway.asking.question import Path, Question, Rewrite
from gateway.asking.recognising import recognise
from gateway.asking.retrieval import Found, Retriever
from gateway.asking.side_questions import SideQuestions
from gateway.asking.stages import BudgetSpentError, Stages
from gateway.asking.whole_corpus import Corpus, Spoken, wanted
from gateway.limits.gate import EXHAUSTED
from services.chassis.errors import Failure, Reason

_NO_MODEL = "the question as it was"


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of looking: passages for a model, or an answer that needs none."""

    rewrite: Rewrite | None
    found: Found
    spoken: Spoken | None = None


class Looking:
    """Looks for what answers a question."""

    def __init__(self, retriever: Retriever, side: SideQuestions) -> None:
        self._finder = Finder(retriever)
        self._corpus = Corpus(retriever)
        self._side = side

    async def looked(self, question: Question, stages: Stages) -> Looked:
        """Look for what answers the question, made whole first.  Raises as the retriever does."""
        return await self.looked_for(question, await self.rewritten(question, stages), stages)

    async def looked_for(self, question: Question, rewrite: Rewrite | None, stages: Stages) -> Looked:
        """The same of a question that was made whole already."""
        whole = replace(question, text=rewrite.question) if rewrite else question
        about = wanted(whole, recognise(whole.text))
        if about.path is not Path.PASSAGES:
            try:
                return Looked(rewrite, Found(()), await self._corpus.spoken(whole, about, stages))
            except BudgetSpentError as spent:
                stages.fell_back(about.path.value, "an answer from passages", spent)
            except Failure as failure:
                # What cannot be summarised here (no generator, another embedding model) has passages all the same.
                if failure.reason not in (Reason.GENERATOR_NOT_SET, Reason.EMBEDDING_MODEL_CHANGED):
                    raise
                stages.fell_back(about.path.value, "an answer from passages", failure)
        return Looked(rewrite, await self._finder.find(question, whole.text, stages))

    async def rewritten(self, question: Question, stages: Stages) -> Rewrite | None:
        """What became of the question before it is looked for; None without earlier turns."""
        why = rewriting.reason_to(question.text, question.history)
        if not question.history:
            return None
        if not why or not question.rewrite:
            reason = "it stands alone" if not why else f"{why}; the request wants no rewriting"
            return Rewrite(question.text, rewritten=False, reason=reason)
        try:
            async with stages.stage("rewrite") as stage:
                stage.input_size = len(question.text)
                said = await self._side.answer(
                    rewriting.SYSTEM,
                    rewriting.asked(question.text, question.history),
                    question.wish.request_id,
                    "rewrite",
                    rewriting.MAX_TOKENS,
                )
                rewrite = rewriting.checked(said, question.text, question.history, why)
                stage.decision = rewrite.reason
        except BudgetSpentError as spent:
            stages.fell_back("rewrite", _NO_MODEL, spent)
            return Rewrite(question.text, rewritten=False, reason=f"{why}; {spent}")
        except Failure as failure:
            # The base has limits of its own.
            if failure.reason not in EXHAUSTED:
                raise
            stages.fell_back("rewrite", _NO_MODEL, failure)
            return Rewrite(question.text, rewritten=False, reason=f"{why}; {failure.sentence}")
        return rewrite
