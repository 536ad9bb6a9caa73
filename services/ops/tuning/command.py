"""`trivium train-encoder`: a collection's own embedder or reranker, from its own questions.

Invariant: exit code 0 means that what was asked for is there: a version that is better (or was wanted all the same),
or with `--dry-run` the figures.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from trivium_client import Trivium
from trivium_client.cli.exits import Exit
from trivium_client.cli.printing import Json, as_json, bars, counted, show
from trivium_client.cli.question_lines import pairs_of

from services.chassis import resources
from services.chassis.config import ServiceSettings
from services.chassis.models import ModelSettings
from services.ops.tuning import conduct
from services.ops.tuning.refusal import Untrainable
from services.ops.tuning.role import Role

if TYPE_CHECKING:
    # What these stand on is not installed with every service, and takes longer to import than most commands to run.
    from services.ops.tuning.judgement import Judged
    from services.ops.tuning.passages import Told
    from services.ops.tuning.recipe import Outcome, Wish

# Negatives of a lesson: an embedder also has those of its batch.
_NEGATIVES = {Role.EMBEDDER: 3, Role.RERANKER: 7}
# Of steps from weights that know language already; a reranker's head begins at random.
_RATE = {Role.EMBEDDER: 2e-5, Role.RERANKER: 5e-5}
_COLUMNS = ("order", "ndcg_at_10", "mrr_at_10")


def train_encoder(
    collection: Annotated[str, typer.Argument(help="Collection id.")],
    questions: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            help='JSON Lines as `docs tune` takes: {"question": "...", "documents": ["a.md"]}.',
        ),
    ],
    model: Annotated[str, typer.Option(help="Model of the registry that gets the version; made when new.")] = "",
    role: Annotated[Role, typer.Option(help="What to train.")] = Role.EMBEDDER,
    base: Annotated[
        str, typer.Option(help="What it begins as: wheel:, file: or hf: address; empty: the deployment's embedder.")
    ] = "",
    held_out: Annotated[
        float, typer.Option(min=0.05, max=0.9, help="Share of the questions that is kept aside to judge by.")
    ] = 0.3,
    share_documents: Annotated[
        bool, typer.Option("--share-documents", help="A document may answer questions on both sides.")
    ] = False,
    epochs: Annotated[float, typer.Option(min=0.01, help="Times that each question is learned.")] = 3.0,
    batch: Annotated[int, typer.Option(min=2, max=1024, help="Questions of a step; of a reranker pairs.")] = 16,
    negatives: Annotated[
        int | None, typer.Option(min=1, max=40, help="Wrong passages of a question; 3, of a reranker 7.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Largest step; 2e-5, of a reranker 5e-5.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, questions and threads give the same weights.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="Threads that compute; 0: this machine's for training.")] = 0,
    publish_anyway: Annotated[
        bool, typer.Option("--publish-anyway", help="Publish it also where it is not better.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Also keep the trained model, in this new folder.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge what there is, and train nothing.")] = False,
    json_wanted: Json = False,
) -> None:
    """Train a collection's own embedder or reranker from its questions, and publish it if it is better.

    Example: trivium train-encoder handbook questions.jsonl --model handbook-embedder
    """
    if not model and not dry_run:
        raise typer.BadParameter("say --model NAME, or --dry-run", param_hint="--model")
    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} exists; name a new folder", param_hint="--out")
    outcome, wish = _followed(
        collection, _answered(questions), role,
        {"epochs": epochs, "batch_size": batch, "learning_rate": learning_rate or _RATE[role],
         "negatives": negatives or _NEGATIVES[role], "seed": seed, "threads": threads},
        {"base": base or ModelSettings().embedding_model, "model": "" if dry_run else model, "held_out": held_out,
         "share_documents": share_documents, "publish_anyway": publish_anyway, "out": out},
    )  # fmt: skip
    _tell(outcome, wish, json_wanted=json_wanted)
    if not dry_run and outcome.version is None:
        raise typer.Exit(Exit.REFUSED)


def _answered(questions: Path) -> list[tuple[str, list[str]]]:
    """The questions of a file that a document answers; `docs tune` has a use for the others as well."""
    pairs = pairs_of(questions)
    answered = [(question, documents) for question, documents in pairs if documents]
    if others := len(pairs) - len(answered):
        typer.echo(f"{counted(others, 'question')} without a document left out.", err=True)
    return answered


def _followed(
    collection: str, pairs: list[tuple[str, list[str]]], role: Role, settings: dict[str, Any], how: dict[str, Any]
) -> "tuple[Outcome, Wish]":
    """What came of the recipe; what stops it is told as one line."""
    try:
        conduct.libraries()
        settings["threads"] = _share(settings["threads"])
        from services.ops.tuning.recipe import Wish, followed

        wish = Wish(collection, pairs, role, settings=conduct.Settings(**settings), **how)
        with Trivium() as client, _progress() as told:
            return followed(client, wish, told), wish
    except Untrainable as refusal:
        typer.echo(f"trivium: {refusal}", err=True)
        raise typer.Exit(Exit.REFUSED) from None


def _share(threads: int) -> int:
    """Take training's part of the machine, before torch is imported; while a suite serves here, what serving leaves."""
    share = resources.shares()[resources.Role.TRAINER]
    own = threads or share.threads
    os.environ.update(share.environment() | {"OMP_NUM_THREADS": str(own), "MKL_NUM_THREADS": str(own)})
    if resources.serving(ServiceSettings().data_dir):
        resources.apply(resources.Role.TRAINER, share)
    return own


@contextmanager
def _progress() -> "Iterator[Told]":
    with bars() as progress:
        task = progress.add_task("reading", total=None)

        def told(what: str, done: int, whole: int) -> None:
            progress.update(task, description=what, completed=done, total=whole)

        yield told


def _tell(outcome: "Outcome", wish: "Wish", *, json_wanted: bool) -> None:
    judged = [*outcome.before, *([outcome.comparison.trained] if outcome.comparison else [])]
    if json_wanted:
        typer.echo(as_json(_figures(outcome, judged)))
    else:
        kept, aside = len(outcome.split.training), len(outcome.split.held_out)
        passages = counted(len(outcome.library.passages), "passage")
        typer.echo(f"{passages} of {wish.collection}; {counted(aside, 'question')} kept aside of {kept + aside}.")
        show([_Row.of(it) for it in judged], _COLUMNS, json_wanted=False, empty="")
    if outcome.library.missing:
        lost = counted(outcome.library.missing, "passage")
        typer.echo(f"{lost} of documents with more than 1,000 were not looked at.", err=True)
    if outcome.comparison is not None:
        _conclude(outcome, wish, quiet=json_wanted)
    elif not json_wanted:
        typer.echo("Nothing was trained. To train, repeat it with --model NAME in place of --dry-run.")


def _conclude(outcome: "Outcome", wish: "Wish", *, quiet: bool) -> None:
    """Whether it is better, and what to do next."""
    found = outcome.comparison
    assert found is not None
    interval = (
        f"{found.gain:+.3f} nDCG@10 over {found.before.name}, 95 % interval {found.low:+.3f} to {found.high:+.3f}"
    )
    if outcome.version is None:
        cure = "more questions, or --epochs, may help; --publish-anyway publishes it all the same"
        typer.echo(f"Not better, and not published: {interval}. {cure[0].upper()}{cure[1:]}.", err=True)
    elif not quiet:
        name = f"{outcome.version.model}@{outcome.version.number}"
        typer.echo(f"{'Better' if found.better else 'Not better'}: {interval}.")
        typer.echo(f"{name} is {outcome.version.version}.")
        typer.echo(f"Next: {_next(wish, name)}")


def _next(wish: "Wish", name: str) -> str:
    if wish.role is Role.EMBEDDER:
        return f"trivium docs reembed {wish.collection} {name}"
    return f"trivium docs settings {wish.collection} --rerank --rerank-model {name}"


@dataclass(frozen=True, slots=True)
class _Row:
    """A way to order as the table shows it."""

    order: str
    ndcg_at_10: str
    mrr_at_10: str

    @classmethod
    def of(cls, judged: "Judged") -> "_Row":
        ndcg, rank = judged.means
        return cls(judged.name, f"{ndcg:.3f}", f"{rank:.3f}")


def _figures(outcome: "Outcome", judged: "list[Judged]") -> dict[str, Any]:
    found, version = outcome.comparison, outcome.version
    return {
        "collection": outcome.library.collection,
        "base_digest": outcome.base.digest,
        "passages": len(outcome.library.passages),
        "training_questions": len(outcome.split.training),
        "held_out_questions": len(outcome.split.held_out),
        "ndcg_at_10": {it.name: round(it.means[0], 4) for it in judged},
        "mrr_at_10": {it.name: round(it.means[1], 4) for it in judged},
        "gain": found and [round(it, 4) for it in (found.gain, found.low, found.high)],
        "better": found and found.better,
        "model": version and f"{version.model}@{version.number}",
        "version": version and version.version,
    }
