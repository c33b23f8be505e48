"""Labels, approvals and signatures of model versions: promote, rollback, unlabel, approve, sign."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from saman.cli.models.arguments import Name, Spec, Wait, Why
from saman.cli.models.changes import follow_serving_config, print_change
from saman.cli.options import MODELS, Json, ModelsDir


def promote_command(
    model: Spec,
    label: Annotated[str, typer.Option("--to", help="The label: stable, canary or a label of your own.")] = "stable",
    why: Why = "",
    wait: Wait = False,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Put a label on a version. A version gets the label stable only if it passes all gates.

    Examples:

        saman models promote digits:3

        saman models promote digits:3 --to canary --why "trial"
    """
    from saman.registry.lifecycle import promotion

    change = promotion.promote(models_dir, model, label, why=why)
    number = change.state.assigned[label]
    text = f"{change.state.name} version {number} is {label}"
    left = change.entry.moved_from if change.entry else None
    print_change(change, f"{text} now, instead of {left}" if left else f"{text} now", f"{text} already", as_json)
    follow_serving_config(models_dir, change.state.name, wait)


def rollback_command(
    model: Name, why: Why = "", wait: Wait = False, models_dir: ModelsDir = MODELS, as_json: Json = False
) -> None:
    """Make the previous stable version stable again.

    Example:

        saman models rollback digits --why "more errors"
    """
    from saman.registry.lifecycle.rollback import rollback as roll_back

    change = roll_back(models_dir, model, why=why)
    assert change.entry is not None
    to, left = change.entry.moved_to, change.entry.moved_from
    print_change(change, f"{model} version {to} is stable again, instead of {left}", "", as_json)
    follow_serving_config(models_dir, model, wait)


def unlabel_command(
    model: Name,
    label: Annotated[str, typer.Argument(help="The label to take away.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Take a label away.

    Example:

        saman models unlabel digits canary
    """
    from saman.registry.lifecycle import promotion

    change = promotion.unlabel(models_dir, model, label, why=why)
    print_change(change, f"no version of {model} is {label} now", "", as_json)


def approve_command(
    model: Spec,
    by: Annotated[str, typer.Option("--by", help="The approver's name.")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Record an approval of a version; a policy may require approvals for stable.

    Example:

        saman models approve digits:3 --by ada
    """
    from saman.registry.lifecycle import approval

    change = approval.approve(models_dir, model, by, why=why)
    print_change(change, f"{by} approves {model}", f"{by} approved {model} before", as_json)


def sign_command(
    model: Spec,
    key: Annotated[Path, typer.Option("--key", help="Private key (elliptic curve, PEM).")],
    why: Why = "",
    models_dir: ModelsDir = MODELS,
) -> None:
    """Sign a version's manifest; a policy may require a signature for stable.

    Example:

        saman models sign digits:3 --key key.pem
    """
    from saman.registry.lifecycle.approval import sign as sign_version

    change = sign_version(models_dir, model, key, why=why)
    assert change.entry is not None
    typer.echo(f"{change.state.name} version {change.entry.version} is signed")
