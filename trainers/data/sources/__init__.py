"""Sources of examples: those that saman ships, and the user's function."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.data.section import Data
from saman.runs.ranks.staged_data import with_copies
from saman.trainers.data.interface import Context, Splits

_MODULES = dict.fromkeys(("numpy", "images", "tfrecord", "parquet", "csv"), "files")


def load(data: Data, context: Context) -> Splits:
    """Return the splits that the source of an experiment's ``data`` part gives for an epoch.

    Raises:
        UserError: The user's function is missing, or does not follow the interface.
    """
    args = with_copies(data.args)
    if not is_reference(data.source):
        module = import_module(f"saman.trainers.data.sources.{_MODULES.get(data.source, data.source)}")
        splits: Splits = module.load(context, data.model_copy(update={"args": args}))
        return splits
    function = import_function(data.source, "data.source")
    call = bind(function, "data", context, **args)
    splits = function(*call.args, **call.kwargs)
    if not isinstance(splits, Splits):
        raise UserError(
            f"{data.source} returned {type(splits).__name__}",
            where="data.source",
            remedy="saman.trainers.Splits(train, validation)",
        )
    return splits


def import_function(reference: str, where: str) -> Any:
    """Import the user's data source or model function that ``package.module:function`` names.

    Raises:
        UserError: The module or the function does not exist; ``where`` names the part of the experiment.
    """
    module, _, name = reference.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise  # the user's module imports something that is missing
        raise UserError(f"no module {module!r} was found", where=where) from error
    if not callable(function):
        raise UserError(f"{module} has no function {name!r}", where=where)
    return function


def bind(function: Any, part: str, *values: Any, **args: Any) -> inspect.BoundArguments:
    """Return the arguments of a call of the user's data source or model function.

    Args:
        function: The user's function.
        part: The part of the experiment with the arguments, for messages.
        *values: Positional arguments.
        **args: The experiment's arguments.

    Raises:
        UserError: The function does not take these arguments.
    """
    try:
        return inspect.signature(function).bind(*values, **args)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        problem = f"{name}{inspect.signature(function)} cannot be called with {args}: {error}"
        raise UserError(problem, where=f"{part}.args") from None
