"""The command ``saman``: finds the command, and turns errors into messages and exit statuses.

The command modules import their rooms inside their functions, so that ``saman --help`` loads nothing but typer.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Any

import typer

from saman.cli.terminal import clean_streams
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.terminal_text import clean_text
from saman.runs import variables

# command -> (module, function or typer app); the order is that of the help page
COMMANDS = {
    "new": ("saman.cli.runs.new", "new_command"),
    "run": ("saman.cli.runs.run", "run_command"),
    "submit": ("saman.cli.runs.submit", "submit_command"),
    "shell": ("saman.cli.runs.session", "shell_command"),
    "notebook": ("saman.cli.runs.session", "notebook_command"),
    "status": ("saman.cli.runs.follow", "status_command"),
    "watch": ("saman.cli.runs.watch", "watch_command"),
    "logs": ("saman.cli.runs.follow", "logs_command"),
    "wait": ("saman.cli.runs.follow", "wait_command"),
    "cancel": ("saman.cli.runs.follow", "cancel_command"),
    "resume": ("saman.cli.runs.follow", "resume_command"),
    "fetch": ("saman.cli.remote.fetch", "fetch_command"),
    "prune": ("saman.cli.runs.prune", "prune_command"),
    "study": ("saman.cli.studies.study", "study_command"),
    "tune": ("saman.cli.studies.tune", "tune_command"),
    "autotune": ("saman.cli.studies.autotune", "autotune_command"),
    "report": ("saman.cli.studies.report", "report_command"),
    "predict": ("saman.cli.studies.predict", "predict_command"),
    "partition": ("saman.cli.studies.partition", "partition_command"),
    "models": ("saman.cli.models.models", "app"),
    "serve": ("saman.cli.models.serve", "serve_command"),
    "rollout": ("saman.cli.models.rollout", "app"),
    "infer": ("saman.cli.models.infer", "infer_command"),
    "schedule": ("saman.cli.models.schedule", "app"),
    "track": ("saman.cli.models.track", "track_command"),
    "clusters": ("saman.cli.sites.clusters", "app"),
    "quota": ("saman.cli.sites.quota", "quota_command"),
    "preflight": ("saman.cli.sites.preflight", "preflight_command"),
    "minicluster": ("saman.cli.sites.minicluster", "app"),
    "doctor": ("saman.cli.sites.doctor", "doctor_command"),
    "setup": ("saman.cli.sites.setup", "setup_command"),
    "demo": ("saman.cli.runs.demo", "demo_command"),
}
# Commands that take a program after "--".
TAKES_PROGRAM = ("run", "submit", "shell")
VERBOSE = ("-v", "--verbose")
REMOTE_END = "remote-end"  # not for people: the other end of a connection over ssh

_EPILOG = (
    "Exit status: 0 success, 1 the run failed, 2 invalid request, 3 something is missing on this machine, "
    "130 interrupted, 85 checkpointed, to be requeued."
)


def make_app(names: Iterable[str] = COMMANDS, listed: bool = False) -> typer.Typer:
    """The command line with every command, or those of ``names``.

    ``listed`` leaves out their options: reading those of all commands takes as long as importing typer.
    """
    app = typer.Typer(
        name="saman",
        help="Train Keras models on many ranks, measure how they scale, publish the result.",
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_global_options)
    for name in names:
        module, attribute = COMMANDS[name]
        command = getattr(import_module(module), attribute)
        if listed:
            app.command(name, help=command.info.help if isinstance(command, typer.Typer) else command.__doc__)(_nothing)
        elif isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def app_for(arguments: list[str]) -> typer.Typer:
    """The part of the command line that ``arguments`` need."""
    arguments = [word for word in arguments if word not in VERBOSE]
    if variables.COMPLETE in os.environ:  # a shell completes a line that is not among the arguments
        return make_app()
    if arguments and arguments[0] in COMMANDS:
        return make_app(arguments[:1])
    return make_app(listed=arguments in ([], ["--help"], ["-h"], ["--version"]))


def _nothing() -> None:
    """Body of a command that is only listed."""


def _say_version(wanted: bool) -> None:
    if wanted:
        from saman import __version__

        typer.echo(f"saman {__version__}")
        raise typer.Exit


def _show_log(wanted: bool) -> None:
    if wanted:
        from saman.runs.log import show_log

        show_log()


# Eager, because click otherwise requires a command before it handles the option.
def _global_options(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_say_version, is_eager=True),
    verbose: bool = typer.Option(
        False,
        *VERBOSE,
        help="Write log messages, external commands included, to standard error. Also after the command's name.",
        callback=_show_log,
        is_eager=True,
        expose_value=False,
    ),
) -> None:
    pass


def _with_verbose(app: typer.Typer) -> Any:
    """Build the command line; every command takes ``-v`` too, by the option of the top."""
    from typer.main import get_command

    top: Any = get_command(app)
    option = next(parameter for parameter in top.params if VERBOSE[0] in parameter.opts)
    pending = list(top.commands.values())
    while pending:
        command = pending.pop()
        command.params.append(option)
        pending += getattr(command, "commands", {}).values()
    return top


def split_program(arguments: list[str]) -> tuple[list[str], list[str] | None]:
    """saman's own arguments, and the program after ``--`` where the command takes a program."""
    command = next((word for word in arguments if word not in VERBOSE), None)
    if "--" in arguments and command in TAKES_PROGRAM:
        at = arguments.index("--")
        return arguments[:at], arguments[at + 1 :]
    return arguments, None


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; end the process with saman's exit status."""
    atexit.register(gc.freeze)  # else Python visits every object once more as the process ends: 0.06 s
    words = sys.argv[1:] if arguments is None else arguments
    if words == [REMOTE_END]:
        from saman.cli.remote.remote_end import answer

        sys.exit(answer(main))
    with clean_streams():
        _main(words)


def _main(arguments: list[str]) -> None:
    own, program = split_program(arguments)
    try:
        if variables.LOG in os.environ:
            from saman.runs.log import show_log_if_asked

            show_log_if_asked()
        _with_verbose(app_for(own))(own, obj=program, prog_name="saman")
    except UserError as error:
        say_error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if variables.DEBUG in os.environ:
            raise
        kind = UserError if error.errno == errno.ENAMETOOLONG else EnvironmentLack
        found = kind(error.strerror or str(error), where=error.filename and str(error.filename))
        say_error(found)
        sys.exit(found.exit_code)


def say_error(error: UserError) -> None:
    """Print every problem of ``error`` on standard error, each with its remedy."""
    for problem in (error, *error.others):
        typer.secho("error: ", fg="red", bold=True, nl=False, err=True)
        text = f"{problem.where}: {problem.problem}" if problem.where else problem.problem
        typer.echo(clean_text(text), err=True)
        if problem.remedy:
            typer.secho(clean_text(f"       {problem.remedy}"), dim=True, err=True)
