"""Imports and calls users' functions by ``package.module:function``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from saman.configs.errors import UserError
from saman.trainers.user_code.context import Context


def import_function(reference: str, where: str) -> Any:
    """Import the user's function that ``package.module:function`` names.

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
    """Return the arguments of a call of the user's function.

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
        own = {key: value for key, value in args.items() if not isinstance(value, Context)}
        problem = f"{name}{inspect.signature(function)} cannot be called with {own}: {error}"
        raise UserError(problem, where=f"{part}.args") from None


def accepted(function: Any, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments, such as ``ctx``, for which the function names a parameter."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in offered.items() if name in parameters and value is not None}


def call(reference: str, where: str, args: Mapping[str, Any], *values: Any, **offered: Any) -> Any:
    """Call the user's function with the experiment's arguments, and with what it asks for by name.

    Args:
        reference: ``package.module:function``.
        where: The part of the experiment, for messages.
        args: The arguments of the experiment.
        *values: Positional arguments.
        **offered: What the function may ask for, such as ``ctx``.

    Raises:
        UserError: The function is missing, or does not take these arguments.
    """
    function = import_function(reference, where)
    part = where.rpartition(".")[0] if where in ("data.source", "model.build") else where
    bound = bind(function, part, *values, **{**args, **accepted(function, offered)})
    return function(*bound.args, **bound.kwargs)
