"""`trivium models gate`: conditions that a version must meet before an alias takes it."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, as_json, drawn, show, show_one
from trivium_client.governance_nouns import ForgettingBound, Gate

app = typer.Typer(no_args_is_help=True, help="Conditions before an alias moves.", epilog=EPILOG)

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
    dataset: Annotated[str, typer.Option("--dataset", help="Digest of the dataset that it is measured on.")] = "",
    alias: Annotated[str, typer.Option("--alias", help="Guard this alias alone.")] = "",
    not_forget: Annotated[str, typer.Option("--not-forget", help="Another metric that must not get much worse.")] = "",
    most_loss: Annotated[float, typer.Option("--most-loss", min=0, help="Most that it may get worse by.")] = 0.0,
    forget_dataset: Annotated[str, typer.Option("--forget-dataset", help="Dataset of the other metric.")] = "",
    forget_lower: Annotated[bool, typer.Option("--forget-lower", help="Lower values of it are better.")] = False,
    rollbacks: Annotated[
        bool, typer.Option("--rollbacks", help="Going back to what served before must pass too.")
    ] = False,
    json_wanted: Json = False,
) -> None:
    """Add a gate: without a matching evaluation, or with a worse one, a version does not get the alias.

    Example: trivium models gate add desk good accuracy --required 0.9 --improvement 0.01
    """
    bound = ForgettingBound(not_forget, most_loss, forget_dataset, _direction(forget_lower)) if not_forget else None
    wanted = Gate(
        gate=gate,
        metric=metric,
        direction=_direction(lower),
        dataset_digest=dataset,
        alias=alias,
        required_value=required,
        least_improvement=improvement,
        forgetting=bound,
        checks_rollbacks=rollbacks,
    )
    with Trivium() as client:
        show_one(client.models.create_gate(model, wanted), json_wanted=json_wanted)


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


def _direction(lower: bool) -> str:
    return "lower" if lower else "higher"
