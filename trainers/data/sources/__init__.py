"""Sources of examples: those that saman ships, and the user's function."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.data.section import Data
from saman.runs.ranks.staged_data import with_copies
from saman.trainers.data.division import Share, divide
from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call

_MODULES = dict.fromkeys(("numpy", "images", "tfrecord", "parquet", "csv"), "files")


def load(data: Data, context: Context) -> Splits:
    """Load the source of an experiment's ``data`` part: return the splits for an epoch.

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
    return _hold_out(splits, data, context.seed)


def _hold_out(splits: Splits, data: Data, seed: int) -> Splits:
    """Draw the test examples and the fold that the experiment asks of a user's function.

    ``validation_fraction`` is not drawn: its default would take examples away from functions that divide by themselves.
    """
    share = Share.of(data, has_validation=True, has_test=splits.test is not None)
    if not share.test and share.fold is None:
        return splits
    key = "test_fraction" if share.fold is None else "folds"
    if not isinstance(splits.train, RandomAccess):
        raise UserError(
            f"{data.source} returned training examples without random access, which cannot be divided",
            where=f"data.{key}",
            remedy="return RandomAccess, or divide in the function and remove the key",
        )
    if share.fold is not None and splits.validation is not None:
        problem = f"{data.source} returned validation examples, but folds divide the training examples"
        raise UserError(problem, where="data.folds", remedy="return no validation examples, or remove folds and fold")
    parts = divide(splits.train, share, seed)
    validation = splits.validation if share.fold is None else parts.validation
    test = parts.test if splits.test is None else splits.test
    return replace(splits, train=parts.train, validation=validation, test=test)
