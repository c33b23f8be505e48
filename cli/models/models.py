"""``saman models``: the commands for numbered model versions, in the order of the help page."""

from __future__ import annotations

import typer

from saman.cli.models import formats, listing, promotion, publication

app = typer.Typer(no_args_is_help=True, help="Numbered model versions: publish, verify, promote, roll back, export.")

app.command("list")(listing.list_command)
app.command("show")(listing.show_command)
app.command("publish")(publication.publish_command)
app.command("verify")(listing.verify_command)
app.command("reconcile")(publication.reconcile_command)
app.command("promote")(promotion.promote_command)
app.command("rollback")(promotion.rollback_command)
app.command("unlabel")(promotion.unlabel_command)
app.command("approve")(promotion.approve_command)
app.command("retire")(publication.retire_command)
app.command("prune")(publication.prune_command)
app.command("log")(listing.log_command)
app.command("config")(formats.config_command)
app.command("export")(formats.export_command)
app.command("sign")(promotion.sign_command)
app.command("card")(listing.card_command)
