"""`trivium models gate`: conditions that a version must meet before an alias takes it."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.naming import dataset_digest
from trivium_client.cli.printing import Json, as_json, drawn, show
from trivium_client.governance_nouns import ForgettingBound, Gate

app = typer.Typer(
    no_args_is_help=True,
    help="Conditions before an alias moves.\n\nExample: trivium models gate add desk good accuracy --required 0.9",
    epilog=EPILOG,
)

Model = Annotated[str, typer.Argument(help="Model.")]
GateId = Annotated[str, typer.Argument(help="Gate.")]
_COLUMNS = (
    "gate", "alias", "metric", "direction", "required_value", "least_improvement", "dataset_digest", "forgetting",
)  # fmt: skip


@app.command(epilog=EPILOG)
def add(
    model: Model,
    gate: GateId,
    metric: Annotated[str, typer.Argument(help="Metric that is looked at, for instance accuracy.")],
    required: Annotated[
        float | None, typer.Option("--required", help="Least value that passes; the most where lower is better.")
    ] = None,
    improvement: Annotated[
        float | None, typer.Option("--improvement", help="Least improvement over the version that serves.")
    ] = None,
    lower: Annotated[bool, typer.Option("--lower", help="Lower values of the metric are better.")] = False,
    dataset: Annotated[str, typer.Option("--dataset", help="Dataset that it is measured on: id or digest.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="Guard this alias alone.")] = "",
    not_forget: Annotated[str, typer.Option("--not-forget", help="Another metric that must not get much worse.")] = "",
    most_loss: Annotated[float, typer.Option("--most-loss", min=0, help="Most that it may get worse by.")] = 0.0,
    forget_dataset: Annotated[
        str, typer.Option("--forget-dataset", help="Dataset of the other metric: id or digest.")
    ] = "",
    forget_lower: Annotated[bool, typer.Option("--forget-lower", help="Lower values of it are better.")] = False,
    rollbacks: Annotated[
        bool, typer.Option("--rollbacks", help="`rollback` must pass too; without it, it need not.")
    ] = False,
    json_wanted: Json = False,
) -> None:
    """Add a gate: without a matching evaluation, or with a worse one, a version does not get the alias.

    Every `alias` is asked, also one to a version that served before; a canary is not, whatever its share.

    Example: trivium models gate add desk good accuracy --required 0.9 --improvement 0.01
    """
    if not not_forget and (most_loss or forget_dataset or forget_lower):
        raise typer.BadParameter("say which metric must not get worse: --not-forget METRIC", param_hint="--not-forget")
    with Trivium() as client:
        other = dataset_digest(client, forget_dataset)
        bound = ForgettingBound(not_forget, most_loss, other, _direction(forget_lower)) if not_forget else None
        wanted = Gate(
            gate=gate,
            metric=metric,
            direction=_direction(lower),
            dataset_digest=dataset_digest(client, dataset),
            alias=alias,
            required_value=required,
            least_improvement=improvement,
            forgetting=bound,
            checks_rollbacks=rollbacks,
        )
        stored = client.models.create_gate(model, wanted)
    typer.echo(as_json(stored) if json_wanted else _said(model, stored))


@app.command("list", epilog=EPILOG)
def list_gates(model: Model, json_wanted: Json = False) -> None:
    """List the gates of a model.

    Example: trivium models gate list desk
    """
    with Trivium() as client:
        gates = drawn(client.models.gates(model))
    show(gates, _COLUMNS, json_wanted=json_wanted, empty="It has no gate.")


@app.command(epilog=EPILOG)
def rm(model: Model, gate: GateId, json_wanted: Json = False) -> None:
    """Delete a gate.

    Example: trivium models gate rm desk good
    """
    with Trivium() as client:
        client.models.delete_gate(model, gate)
    typer.echo(as_json({"deleted": gate}) if json_wanted else f"Deleted {gate}.")


def _said(model: str, gate: Gate) -> str:
    """What a gate asks for, in a sentence."""
    guarded = f"{model}@{gate.alias}" if gate.alias else model
    most = gate.direction == "lower"
    asked = []
    if gate.required_value is not None:
        asked.append(f"{gate.metric} of at {'most' if most else 'least'} {gate.required_value:g}")
    if gate.least_improvement is not None:
        asked.append(f"{gate.metric} better than that of what serves by {gate.least_improvement:g} or more")
    if (bound := gate.forgetting) is not None:
        asked.append(f"{bound.metric} worse by {bound.most_loss:g} at most")
    told = f"Gate {gate.gate} guards {guarded}: {', '.join(asked) or f'{gate.metric} must have been measured'}."
    free = "A canary is" if gate.checks_rollbacks else "A canary and a rollback are"
    return f"{told} {free} not asked."


def _direction(lower: bool) -> str:
    return "lower" if lower else "higher"
