"""``saman rollout``: a candidate takes traffic, is judged continuously, and is promoted or rolled back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.models.arguments import Name, Spec, Why
from saman.cli.options import MODELS, Json, ModelsDir
from saman.cli.output import print_json

if TYPE_CHECKING:
    from saman.registry.lifecycle.changes import Change
    from saman.registry.rollout.settle import RolloutStatus
    from saman.registry.store.rollouts import RolloutOutcome

app = typer.Typer(no_args_is_help=True, help="Rollouts: start, status, pause, resume, promote, abort, page.")


@app.command("start")
def start_command(
    model: Spec,
    strategy: Annotated[str, typer.Option("--strategy", help="canary, ab, shadow or blue-green.")] = "canary",
    traffic: Annotated[
        str | None, typer.Option("--traffic", help="Such as 10%. Default: canary 10%, ab 50%, others 100%.")
    ] = None,
    key: Annotated[
        str, typer.Option("--key", help="Header or input that names the user, such as user_id; a user keeps a version.")
    ] = "",
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Start a rollout. `saman serve` sends the candidate its part of the traffic within a second.

    The rollout ends by itself: the candidate becomes stable if every margin of the policy is shown to hold, and loses
    its traffic if harm is shown or the budget is spent. The audit log records the decision with its evidence.

    Examples:

        saman rollout start digits:5 --strategy canary --traffic 10% --key user_id

        saman rollout start digits:5 --strategy shadow
    """
    from saman.configs.errors import UserError, choices
    from saman.registry.rollout.control import start
    from saman.registry.store.rollouts import RolloutStrategy

    names = [known.value for known in RolloutStrategy]
    if strategy not in names:
        raise UserError(f"no strategy is called {strategy!r}", where="--strategy", remedy=choices(strategy, names))
    part = None if traffic is None else _parse_part(traffic)
    rollout = start(models_dir, model, RolloutStrategy(strategy), traffic=part, key=key, why=why)
    if as_json:
        print_json(rollout.to_json())
        return
    begun = rollout.start
    name = model.partition(":")[0]
    typer.echo(f"{begun.strategy.value} of {name} version {rollout.version} against version {begun.stable}: "
               f"{begun.traffic:.1%} of the traffic; saman rollout status {name}")  # fmt: skip


def _parse_part(text: str) -> float:
    from saman.configs.errors import UserError

    number = text.removesuffix("%")
    try:
        value = float(number) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise UserError(f"{text!r} is no part of the traffic", where="--traffic", remedy="such as 10% or 0.1")
    return value


@app.command("status")
def status_command(model: Name, models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Show the newest rollout of a model: what is known of each metric, and the budget that is spent.

    Example:

        saman rollout status digits
    """
    from saman.configs.errors import UserError
    from saman.registry.rollout.settle import look
    from saman.registry.store.layout import find_model

    status = look(find_model(models_dir, model))
    if status is None:
        raise UserError(f"{model} had no rollout", remedy=f"saman rollout start {model}:VERSION")
    if as_json:
        spent = {"spent_requests": status.spent_requests, "spent_time": status.spent_time}
        print_json({**status.rollout.to_json(), **spent, "judgement": status.judgement.to_json()})
        return
    _show(model, status)


def _show(model: str, status: RolloutStatus) -> None:
    from rich.console import Console

    from saman.cli.models.tables import findings_table

    rollout, found = status.rollout, status.judgement
    state = rollout.outcome.value if rollout.outcome else "paused" if rollout.is_paused else "active"
    typer.echo(f"{model} version {rollout.version} against version {rollout.start.stable}, "
               f"{rollout.start.strategy.value}, {rollout.start.traffic:.1%} of the traffic: {state}")  # fmt: skip
    typer.echo(rollout.why if rollout.outcome else found.reason)
    Console().print(findings_table(found.findings))
    candidate, stable = found.requests
    typer.echo(f"answers: candidate {candidate}, stable {stable}; budget spent: "
               f"requests {status.spent_requests:.0%}, time {status.spent_time:.0%}")  # fmt: skip


@app.command("pause")
def pause_command(model: Name, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Let stable answer everything; resume continues the same rollout.

    Example:

        saman rollout pause digits --why "incident elsewhere"
    """
    from saman.registry.rollout.control import pause

    _print(pause(models_dir, model, why=why), f"the rollout of {model} is paused", as_json)


@app.command("resume")
def resume_command(model: Name, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """Continue a paused rollout.

    Example:

        saman rollout resume digits
    """
    from saman.registry.rollout.control import pause

    _print(pause(models_dir, model, resume=True, why=why), f"the rollout of {model} goes on", as_json)


@app.command("promote")
def promote_command(model: Name, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """End the rollout now and make its candidate stable, if its gates allow it.

    Example:

        saman rollout promote digits --why "urgent correction"
    """
    from saman.registry.store.rollouts import RolloutOutcome

    _finish(models_dir, model, RolloutOutcome.PROMOTED, why, as_json)


@app.command("abort")
def abort_command(model: Name, why: Why = "", models_dir: ModelsDir = MODELS, as_json: Json = False) -> None:
    """End the rollout now; stable answers everything again.

    Example:

        saman rollout abort digits
    """
    from saman.registry.store.rollouts import RolloutOutcome

    _finish(models_dir, model, RolloutOutcome.ABORTED, why, as_json)


def _finish(models_dir: Path, model: str, outcome: RolloutOutcome, why: str, as_json: bool) -> None:
    from saman.registry.rollout.control import finish
    from saman.registry.rollout.settle import look
    from saman.registry.store.layout import find_model

    status = look(find_model(models_dir, model))
    change = finish(models_dir, model, outcome, judgement=status.judgement if status else None, why=why)
    _print(change, f"the rollout of {model} is {outcome.value}", as_json)


def _print(change: Change, text: str, as_json: bool) -> None:
    rollout = change.state.rollout
    assert rollout is not None
    if as_json:
        print_json({**rollout.to_json(), "changed": change.entry is not None})
    else:
        typer.echo(text if change.entry else f"{text} already")


@app.command("page")
def page_command(
    model: Name,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("rollout.html"),
    models_dir: ModelsDir = MODELS,
) -> None:
    """Write the page of the newest rollout: its decision and the confidence sequences.

    Example:

        saman rollout page digits -o rollout.html
    """
    from saman.registry.rollout.page import render_page
    from saman.registry.store.layout import find_model
    from saman.runs.files.whole import write_whole

    write_whole(output, render_page(find_model(models_dir, model)))
    typer.echo(f"written to {output}")
