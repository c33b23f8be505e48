"""Shows the messages of saman's loggers (``saman.*``) on standard error, for ``-v`` and ``SAMAN_LOG``.

Without either, nothing is shown or configured: a program that uses saman decides by itself.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from saman.configs.errors import UserError
from saman.runs import variables

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s"


class _ErrorHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error; a class of its own, so that it is attached once."""


def show_log(level: int = logging.DEBUG) -> None:
    """Show messages of ``level`` and above on standard error; a second call shows at most more."""
    logger = logging.getLogger("saman")
    if not any(isinstance(handler, _ErrorHandler) for handler in logger.handlers):
        handler = _ErrorHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_FORMAT, "%H:%M:%S"))
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(level)
    logger.setLevel(min(level, logger.level))


def show_log_if_asked(environ: Mapping[str, str] = os.environ) -> None:
    """Show messages of the level that ``SAMAN_LOG`` names.

    Raises:
        UserError: ``SAMAN_LOG`` names no level.
    """
    name = environ.get(variables.LOG, "")
    if not name:
        return
    if name.lower() not in LEVELS:
        raise UserError(f"{name!r} is not a log level", where=variables.LOG, remedy=", ".join(LEVELS))
    show_log(LEVELS[name.lower()])
