"""Sources of examples: those that saman ships, and the user's function."""

from __future__ import annotations

from importlib import import_module

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.data.section import Data
from saman.runs.ranks.staged_data import with_copies
from saman.trainers.data.interface import Splits
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call

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
    splits = call(data.source, "data.source", args, context)
    if not isinstance(splits, Splits):
        raise UserError(
            f"{data.source} returned {type(splits).__name__}",
            where="data.source",
            remedy="saman.trainers.Splits(train, validation)",
        )
    return splits
