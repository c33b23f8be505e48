"""The schema of ``data``: the source of the examples, how they are divided, and what happens to damaged ones."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, ValidationInfo, field_validator, model_validator

from saman.configs.names import is_reference
from saman.configs.problems import Strict
from saman.configs.schemas.builtins import SOURCES, known, resolved_args
from saman.configs.schemas.data.augmentation import Augmentation

Fraction = Annotated[float, Field(ge=0, lt=1)]
# Keys that came after the first checkpoints: a checkpoint without them was written with these values.
_LATER: dict[str, Any] = {"test_fraction": 0.0, "folds": None, "fold": None, "class_weights": None, "augment": []}
_NOT_DETERMINING = {"on_corrupt", "hashes", "checks"}


_CHECKS = ("missing", "constant", "duplicates", "labels", "drift")
Reaction = Literal["ignore", "warn", "error"]


class DataChecks(Strict):
    """What happens when a look at a sample of the data before training finds a problem.

    ``missing`` and infinite values, ``constant`` inputs, ``duplicates`` over training, validation and test examples,
    ``labels``: a single class, a class that is much larger than another, labels that training lacks, and ``drift``:
    shape, type, range or classes other than in ``reference``: ``published`` (the newest version of the model that the
    run publishes), a version's manifest, or an ``export.json``.
    """

    missing: Reaction = "warn"
    constant: Reaction = "warn"
    duplicates: Reaction = "warn"
    labels: Reaction = "warn"
    drift: Reaction = "warn"
    reference: str | None = None

    def reactions(self) -> dict[str, Reaction]:
        """Return the reaction by the name of the check."""
        return {name: getattr(self, name) for name in _CHECKS}


class Data(Strict):
    """The examples: a built-in source or ``package.module:function``, called as ``fn(ctx, **args)``.

    With ``folds`` and ``fold``, fold number ``fold`` (from 0) is for validation instead of ``validation_fraction``.
    ``class_weights`` multiply the losses of training examples by class (1 for classes without a weight); ``balanced``
    weighs classes by the inverse of their share.
    """

    source: str
    args: dict[str, Any] = {}
    validation_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.0
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: NonNegativeInt | None = None
    shuffle: bool = True
    on_corrupt: Literal["stop", "skip"] = "stop"
    hashes: Literal["auto", "always", "never"] = "auto"
    class_weights: Literal["balanced"] | dict[NonNegativeInt, NonNegativeFloat] | None = None
    augment: list[Augmentation] = []
    checks: DataChecks = DataChecks()

    @field_validator("source")
    @classmethod
    def _known(cls, name: str) -> str:
        return known(SOURCES, name)

    @field_validator("args")
    @classmethod
    def _complete(cls, args: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return resolved_args(SOURCES, info.data.get("source"), args)

    @field_validator("checks", mode="before")
    @classmethod
    def _reaction_alone(cls, value: Any) -> Any:
        return dict.fromkeys(_CHECKS, value) if isinstance(value, str) else value

    @field_validator("augment", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return (
            [{"name": item} if isinstance(item, str) else item for item in value] if isinstance(value, list) else value
        )

    @model_validator(mode="after")
    def _parts_fit(self) -> Data:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("give folds and fold together: folds: 5, fold: 0")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is not below folds ({self.folds}); folds count from 0")
        if self.folds is not None and self.args.get("validation") is not None and not is_reference(self.source):
            raise ValueError("folds divide the training files; remove args.validation")
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave no example for training")
        return self

    @property
    def has_validation(self) -> bool:
        """Whether validation examples may be there; a user's function decides by itself."""
        held = self.validation_fraction > 0 or self.folds is not None
        return held or is_reference(self.source) or self.args.get("validation") is not None

    @property
    def has_test(self) -> bool:
        """Whether test examples may be there; a user's function decides by itself."""
        return self.test_fraction > 0 or is_reference(self.source) or self.args.get("test") is not None

    def determining(self) -> dict[str, Any]:
        """Return what determines the examples and their order, for checkpoints."""
        values = self.model_dump(mode="json", exclude=_NOT_DETERMINING)
        return {key: value for key, value in values.items() if key not in _LATER or value != _LATER[key]}
