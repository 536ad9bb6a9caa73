"""`trivium docs settings` and `trivium docs tune`: how a collection is searched where a request does not say."""

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from trivium_client import NotFoundError, Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json, bars, counted, show, show_one
from trivium_client.cli.question_lines import pairs_of
from trivium_client.nouns import Calibration, Collection, TuningTrial

# As the contract has it: fewer tell nothing.
_LEAST = 10


def settings(
    collection: Annotated[str, typer.Argument(help="Collection id.")],
    mode: Annotated[str | None, typer.Option(help="hybrid, dense or sparse; empty: the deployment's.")] = None,
    dense_weight: Annotated[float | None, typer.Option(min=0, max=1, help="Weight of vectors beside keywords.")] = None,
    rerank: Annotated[bool | None, typer.Option(help="Look at the best 40 again.")] = None,
    rerank_model: Annotated[
        str | None,
        typer.Option(help="What looks again: a reranker of your own (MODEL@NUMBER); empty: the embedder's default."),
    ] = None,
    hyde: Annotated[
        str | None, typer.Option(help="Also look for a passage that might answer: off, weak or always.")
    ] = None,
    decompose: Annotated[bool | None, typer.Option(help="Break the question up as well.")] = None,
    questions_per_chunk: Annotated[
        int | None, typer.Option(min=0, max=8, help="Questions that are written for each chunk, and looked at.")
    ] = None,
    abstention: Annotated[
        str | None,
        typer.Option(help="What ask makes of questions that are not answered here: strict, hedge or off."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Answerability from which on the answer counts as being there.")
    ] = None,
    json_wanted: Json = False,
) -> None:
    """Show how a collection is searched where a request does not say, or change what is named.

    Example: trivium docs settings handbook --hyde weak
    """
    named: dict[str, Any] = {
        "mode": mode, "dense_weight": dense_weight, "rerank": rerank, "rerank_model": rerank_model, "hyde": hyde,
        "decompose": decompose, "questions_per_chunk": questions_per_chunk, "abstention": abstention,
    }  # fmt: skip
    changes = {name: value for name, value in named.items() if value is not None}
    with Trivium() as client:
        found = client.collections.get(collection)
        if changes or threshold is not None:
            wanted = replace(found.search_settings, **changes) if changes else None
            found = client.collections.update(
                collection, search_settings=wanted, answerable_threshold=threshold, etag=found.etag
            )
    shown: dict[str, Any] = {
        "collection": found.collection,
        "embedding_digest": found.embedding_digest,
        **asdict(found.search_settings),
        "answerable_threshold": found.answerable_threshold,
    }
    if found.former_answerable_threshold is not None:
        shown["former_answerable_threshold"] = found.former_answerable_threshold
    if found.questions is not None:
        shown["chunks_with_questions"] = f"{found.questions.chunks_done} of {found.questions.chunks}"
        shown["reason"] = found.questions.reason
    show_one(shown, json_wanted=json_wanted)
    tell_former_threshold(found)


def tell_former_threshold(found: Collection) -> None:
    """Say on standard error, where it is so, that a change of embedding model ended the threshold of answers."""
    former = found.former_answerable_threshold
    if former is None:
        return
    typer.echo(
        f"{found.collection} said that the answer is there from {former:.2f} on under its former embedding model; scores of "
        f"two models do not compare, so it is {found.answerable_threshold:.2f} again. Fit it, and how the collection is "
        f"searched, anew: trivium docs tune {found.collection} QUESTIONS --apply",
        err=True,
    )


def tune(
    collection: Annotated[str, typer.Argument(help="Collection id.")],
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='JSON Lines: {"question": "...", "documents": ["leave.md"]}; 10 to 2,000. With 10 or more whose documents '
            "are [], which no document answers, the threshold of answers is fitted as well.",
        ),
    ],
    apply: Annotated[bool, typer.Option("--apply", help="Search the collection so from now on.")] = False,
    json_wanted: Json = False,
) -> None:
    """Try ways to search on questions whose documents are known; one is taken where it is better beyond its interval.

    Questions that no document answers calibrate when `trivium docs search` says that the answer is not there.

    Example: trivium docs tune handbook questions.jsonl --apply
    """
    asked = pairs_of(questions)
    pairs = [(question, documents) for question, documents in asked if documents]
    unanswerable = [question for question, documents in asked if not documents]
    if len(pairs) < _LEAST or 0 < len(unanswerable) < _LEAST:
        problem = f"{questions} has {counted(len(pairs), 'question')} with documents and {len(unanswerable)} without"
        wanted = f"at least {_LEAST} with documents are wanted, and of those without none or at least {_LEAST}"
        raise typer.BadParameter(f"{problem}; {wanted}", param_hint="QUESTIONS")
    with Trivium() as client, bars() as progress:
        task = progress.add_task("tuning", total=None)

        def told(trial: str, done: int, total: int) -> None:
            progress.update(task, description=trial, completed=done, total=total)

        try:
            report = client.docs.tune(collection, pairs, unanswerable=unanswerable, apply=apply, progress=told)
        except NotFoundError as error:
            if error.reason != "DOCUMENT_NOT_FOUND":
                raise
            asking = next((question for question, names in pairs if error.variables.get("name") in names), "")
            where = f'It answers the question "{asking}"; `trivium docs list -c {collection}` shows what there is.'
            typer.echo(f"trivium: {error.message} {where}", err=True)
            raise typer.Exit(Exit.NOT_FOUND) from None
    if json_wanted:
        typer.echo(as_json(report))
        return
    columns = [field.name for field in fields(_Row)]
    show([_Row.of(trial) for trial in report.trials], columns, json_wanted=False, empty="Nothing was tried.")
    typer.echo(
        f"{collection} is searched so now:" if report.applied else "These questions bear out (--apply stores it):"
    )
    show_one(asdict(report.search_settings), json_wanted=False)
    if report.calibration is not None:
        typer.echo(_calibrated(report.calibration))


def _calibrated(found: Calibration) -> str:
    """What the threshold does, on questions that it was not fitted on."""
    chosen = "fitted" if found.taken else "the default: no other is better beyond its interval"
    return (
        f"The answer counts as being there from {found.threshold:.2f} on ({chosen}): so {found.answered:.0%} of your "
        f"questions with an answer are answered and {found.refused:.0%} of the others refused (AUC {found.auc:.3f}; a "
        f"fitted threshold gains {found.gain:+.3f}, {found.gain_low:+.3f} to {found.gain_high:+.3f})."
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A trial as the table shows it; only its name and the reason where it was not measured."""

    trial: str
    ndcg: str = ""
    recall: str = ""
    gain: str = ""
    interval: str = ""
    seconds: str = ""
    taken: str = ""
    note: str = ""

    @classmethod
    def of(cls, trial: TuningTrial) -> "_Row":
        if trial.note.startswith("not measured"):
            return cls(trial.trial, note=trial.note)
        return cls(
            trial=trial.trial,
            ndcg=f"{trial.ndcg:.3f}",
            recall=f"{trial.recall:.3f}",
            gain=f"{trial.gain:+.3f}",
            interval=f"{trial.gain_low:+.3f} to {trial.gain_high:+.3f}",
            seconds=f"{trial.seconds:.3f}",
            taken="yes" if trial.taken else "",
            note=trial.note,
        )
