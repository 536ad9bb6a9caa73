"""What a response has of an answer with sources: how it is asked for, and what it tells beside its citations."""

from dataclasses import dataclass

from gateway.asking.question import Answer, Path, Release, Rewrite, Sources, Unsupported
from gateway.asking.quotes import Quote
from gateway.asking.retrieval import Abstention, Policy, Source
from gateway.asking.stages import Report
from gateway.asking.support import Judged


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is made from sources.  What is None, UNSPECIFIED or empty was not said, and is as ``Question`` has it.

    ``explain`` and ``fallbacks`` mean something without sources too.
    """

    abstention: Policy = Policy.UNSPECIFIED
    path: Path = Path.UNSPECIFIED
    rewrite: bool | None = None
    release: Release | None = None
    unsupported: Unsupported | None = None
    check_support: bool = False
    as_readers: tuple[str, ...] = ()
    explain: bool = False
    fallbacks: bool = True

    @property
    def of_sources(self) -> tuple[str, ...]:
        """The names of what was said of an answer with sources alone."""
        said = {
            "abstention": self.abstention is not Policy.UNSPECIFIED,
            "path": self.path is not Path.UNSPECIFIED,
            "rewrite": self.rewrite is not None,
            "release": self.release is not None,
            "unsupported": self.unsupported is not None,
            "check_support": self.check_support,
            "as_readers": bool(self.as_readers),
        }
        return tuple(name for name, given in said.items() if given)


@dataclass(frozen=True, slots=True)
class Grounds:
    """What was decided before an answer, and what was found out about it: the sources that stand in the prompt are not here.

    Nothing of it is there where no passages were looked for, but ``stages`` that were asked for.
    """

    path: Path = Path.UNSPECIFIED
    abstention: Abstention | None = None
    rewrite: Rewrite | None = None
    left_out: tuple[Source, ...] = ()
    sentences: tuple[Judged, ...] = ()
    quotes: tuple[Quote, ...] = ()
    unresolved_markers: tuple[int, ...] = ()
    stages: tuple[Report, ...] = ()
    prompt_format: str = ""


def before(told: Sources) -> Grounds:
    """What is known before the text of an answer."""
    return Grounds(told.path, told.abstention, told.rewrite, told.left_out)


def whole(answer: Answer) -> Grounds:
    """The same at its end, with what was found out about the text."""
    told = answer.told
    return Grounds(
        path=told.path,
        abstention=told.abstention,
        rewrite=told.rewrite,
        left_out=told.left_out,
        sentences=answer.sentences,
        quotes=answer.quotes,
        unresolved_markers=answer.unresolved_markers,
        stages=answer.stages,
        prompt_format=answer.prompt_format,
    )
