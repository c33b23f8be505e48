"""``saman models``: the commands for numbered model versions, in the order of the help page."""

from __future__ import annotations

import typer

from saman.cli.models import formats, listing, promotion, publication

app = typer.Typer(no_args_is_help=True, help="Numbered model versions: publish, verify, promote, roll back, export.")

app.command("list")(listing.list_models)
app.command()(listing.show)
app.command()(publication.publish)
app.command()(listing.verify)
app.command()(publication.reconcile)
app.command()(promotion.promote)
app.command()(promotion.rollback)
app.command()(promotion.unlabel)
app.command()(promotion.approve)
app.command()(publication.retire)
app.command()(publication.prune)
app.command("log")(listing.show_log)
app.command()(formats.config)
app.command()(formats.export)
app.command()(promotion.sign)
app.command()(listing.card)
