"""Where examples come from: the sources that saman ships, and the user's function."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.experiment import Data
from saman.trainers.data.interface import Context, Splits


def load(data: Data, context: Context) -> Splits:
    """The splits of an experiment's ``data`` part, for one epoch.

    Raises ``UserError`` where the user's function does not keep to the interface.
    """
    if not is_reference(data.source):
        module = import_module(f"saman.trainers.data.sources.{data.source}")
        splits: Splits = module.load(context, data.validation_fraction, **data.args)
        return splits
    function = user_function(data.source, "data.source")
    call = bound(function, "data", context, **data.args)
    splits = function(*call.args, **call.kwargs)
    if not isinstance(splits, Splits):
        raise UserError(
            f"{data.source} returned {type(splits).__name__}",
            where="data.source",
            remedy="saman.trainers.Splits(train, validation)",
        )
    return splits


def user_function(reference: str, where: str) -> Any:
    """The function that ``package.module:function`` names; its folder is already on ``sys.path``."""
    module, _, name = reference.partition(":")
    try:
        function = getattr(import_module(module), name, None)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
            raise  # something that the user's module imports is missing
        raise UserError(f"no module {module!r} was found", where=where) from error
    if not callable(function):
        raise UserError(f"{module} has no function {name!r}", where=where)
    return function


def bound(function: Any, part: str, *values: Any, **args: Any) -> inspect.BoundArguments:
    """The call of a user's function; raises ``UserError`` where it does not take the experiment's ``args``."""
    try:
        return inspect.signature(function).bind(*values, **args)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        problem = f"{name}{inspect.signature(function)} cannot be called with {args}: {error}"
        raise UserError(problem, where=f"{part}.args") from None
