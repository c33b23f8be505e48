"""The schema of ``train``: strategy, batch size, optimiser, learning rate, checkpoints, precision."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from saman.configs.problems import Strict
from saman.configs.schemas.launch.exchange import Exchange
from saman.configs.schemas.launch.parameter_server import ParameterServer
from saman.configs.schemas.learning import components
from saman.configs.schemas.learning.components import Callbacks, Metrics, ModelOutput, Smoothing
from saman.configs.schemas.learning.keras_names import LOSSES, OPTIMIZERS, SCHEDULES, own_name
from saman.configs.schemas.learning.plateau import ReduceOnPlateau
from saman.configs.schemas.learning.weights import Average, LayerRates, Patterns, WarmStart
from saman.configs.schemas.splitting import Pipeline
from saman.configs.units import Span

Strategy = Literal[
    "single", "horovod", "mirrored", "central_storage", "multi_worker", "parameter_server", "pipeline", "tpu"
]
OVER_GRPC = ("multi_worker", "parameter_server")  # strategies whose processes listen without authentication
ONE_PROCESS = ("mirrored", "central_storage", "tpu")  # strategies whose ranks are the devices of a single process
Precision = Literal["float32", "float64", "mixed_float16", "mixed_bfloat16"]
COMPILING = ("single", "horovod")  # strategies whose steps XLA can compile
Fraction = Annotated[float, Field(ge=0, lt=1)]
_OPTIMIZERS = ("sgd", "adam", "adamw", "lamb", *OPTIMIZERS)
_SCHEDULES = ("constant", "cosine", "step", "exponential", *SCHEDULES)


class Sgd(Strict):
    """Stochastic gradient descent with optional (Nesterov) momentum."""

    name: Literal["sgd"]
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0


class Adam(Strict):
    """Adam (Kingma and Ba, 2015)."""

    name: Literal["adam"]
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7


class AdamW(Strict):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"]
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-7
    weight_decay: NonNegativeFloat = 0.01


class LambSettings(Strict):
    """Layer-wise adaptive moments for large batches (You et al., 2020)."""

    name: Literal["lamb"]
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.999
    epsilon: PositiveFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.01


class OtherOptimizer(Strict):
    """Any other optimiser: a class of keras.optimizers, or what a user's function or class returns for ``args``."""

    name: str
    args: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return components.checked(name, _OPTIMIZERS)

    @field_validator("args")
    @classmethod
    def _rate_is_a_function_of_the_step(cls, args: dict[str, Any]) -> dict[str, Any]:
        if "learning_rate" in args:
            raise ValueError("learning_rate has a key of its own; use train.learning_rate")
        return args


def _branch(*known: str, other: str) -> Discriminator:
    """Choose a schema by ``name``: one of the known, else ``other``."""

    def choose(value: Any) -> str:
        name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
        return name if name in known else other

    return Discriminator(choose)


Optimizer = Annotated[
    Annotated[Sgd, Tag("sgd")]
    | Annotated[Adam, Tag("adam")]
    | Annotated[AdamW, Tag("adamw")]
    | Annotated[LambSettings, Tag("lamb")]
    | Annotated[OtherOptimizer, Tag("OtherOptimizer")],
    _branch("sgd", "adam", "adamw", "lamb", other="OtherOptimizer"),
]


class Constant(Strict):
    """``schedule: constant``: a constant rate."""

    name: Literal["constant"]


class Cosine(Strict):
    """``schedule: cosine``: half a cosine period, from the rate down to ``final_fraction`` of it at the last step."""

    name: Literal["cosine"]
    final_fraction: Fraction = 0.0


class Piecewise(Strict):
    """``schedule: step``: the rate is multiplied by ``factor`` at each epoch of ``at_epochs``."""

    name: Literal["step"]
    at_epochs: list[PositiveFloat] = Field(min_length=1)
    factor: PositiveFloat = 0.1


class Exponential(Strict):
    """``schedule: exponential``: the rate is multiplied by ``factor`` once per epoch, smoothly."""

    name: Literal["exponential"]
    factor: PositiveFloat


class OtherSchedule(Strict):
    """A class of keras.optimizers.schedules for a rate of 1, or a user's function of the step; it gives a factor.

    A user's function may ask for ``step`` (from 0), ``epoch`` (a fraction), ``steps``, ``steps_per_epoch``, ``ctx``.
    """

    name: str
    args: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return components.checked(name, _SCHEDULES)


Schedule = Annotated[
    Annotated[Constant, Tag("constant")]
    | Annotated[Cosine, Tag("cosine")]
    | Annotated[Piecewise, Tag("step")]
    | Annotated[Exponential, Tag("exponential")]
    | Annotated[OtherSchedule, Tag("OtherSchedule")],
    _branch("constant", "cosine", "step", "exponential", other="OtherSchedule"),
]


class LearningRate(Strict):
    """The rate for ``base_batch_size``, and its scaling with the global batch size, never with the number of ranks."""

    base: PositiveFloat
    base_batch_size: PositiveInt | None = None
    scale: Literal["linear", "sqrt", "none"] = "none"
    warmup_epochs: NonNegativeFloat = 0.0
    schedule: Schedule = Constant(name="constant")
    reduce_on_plateau: ReduceOnPlateau | None = None

    @field_validator("schedule", mode="before")
    @classmethod
    def _by_name_alone(cls, value: Any) -> Any:
        return components.under_own_name(value, _SCHEDULES)

    @model_validator(mode="after")
    def _scale_has_its_base(self) -> LearningRate:
        if self.scale != "none" and self.base_batch_size is None:
            raise ValueError(f"scale: {self.scale} needs base_batch_size, the batch for which base was found")
        return self


class Clipping(Strict):
    """Clipping of gradients: to ``global_norm``, or each entry to ±``value``."""

    global_norm: PositiveFloat | None = None
    value: PositiveFloat | None = None

    @model_validator(mode="after")
    def _one(self) -> Clipping:
        if (self.global_norm is None) == (self.value is None):
            raise ValueError("give exactly one of global_norm and value")
        return self


class CheckpointPolicy(Strict):
    """When to write a checkpoint; the newest ``keep`` are kept.

    ``every: auto`` takes the interval that loses least (Young, 1974; Daly, 2006): from the cost of the run's own
    checkpoints and the mean time between failures, which is ``mtbf`` until failures of the run correct it.
    """

    every: Literal["auto"] | None = None
    mtbf: Span = "1d"
    every_steps: PositiveInt | None = None
    every_epochs: PositiveInt | None = 1
    keep: PositiveInt = 3

    @model_validator(mode="before")
    @classmethod
    def _automatic_alone(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("every") == "auto":
            return {"every_epochs": None, **values}
        return values

    @model_validator(mode="after")
    def _one_interval(self) -> CheckpointPolicy:
        if self.every == "auto" and (self.every_steps is not None or self.every_epochs is not None):
            raise ValueError("every: auto chooses the interval; leave every_steps and every_epochs out")
        return self


class EarlyStop(Strict):
    """Training ends after ``patience`` validations in which ``metric`` did not improve by ``min_delta``.

    ``goal: auto`` minimizes losses and errors, and maximizes every other metric.
    """

    metric: str = "val_loss"
    goal: Literal["auto", "minimize", "maximize"] = "auto"
    patience: PositiveInt = 3
    min_delta: NonNegativeFloat = 0.0
    restore_best: bool = True


def global_batch_size(fixed: int | None, per_rank: int | None, ranks: int) -> int:
    """Compute the examples per optimiser step over all ranks from the batch sizes in the schema.

    Args:
        fixed: The experiment's ``global_batch_size``, where it gives it.
        per_rank: Its ``batch_size_per_rank``, where it gives that instead.
        ranks: Number of ranks.

    >>> global_batch_size(256, None, 8), global_batch_size(None, 32, 8)
    (256, 256)
    """
    return fixed or (per_rank or 0) * ranks


class Train(Strict):
    """The training. Set exactly one of ``global_batch_size`` and ``batch_size_per_rank``."""

    strategy: Strategy = "horovod"
    epochs: PositiveInt = 1
    max_steps: PositiveInt | None = None
    global_batch_size: PositiveInt | None = None
    batch_size_per_rank: PositiveInt | None = None
    micro_batches: PositiveInt = 1
    exchange: Exchange = Exchange()
    pipeline: Pipeline | None = None
    parameter_server: ParameterServer | None = None
    loss: str = "sparse_categorical_crossentropy"
    loss_args: dict[str, Any] = {}
    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    metrics: Metrics = []
    outputs: dict[str, ModelOutput] = {}  # of a model with several, by name; instead of loss and metrics
    callbacks: Callbacks = []
    freeze: Patterns = []  # of names of layers that are not trained
    layer_rates: LayerRates = {}  # factor of the learning rate by pattern of names of weights; the last that fits
    ema: Average | None = None
    warm_start: WarmStart | None = None
    optimizer: Optimizer = Sgd(name="sgd")
    learning_rate: LearningRate = LearningRate(base=0.01)
    clip_gradients: Clipping | None = None
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    early_stop: EarlyStop | None = None
    validate_every_epochs: PositiveInt = 1
    validate_every_steps: PositiveInt | None = None  # beside the validations at the ends of epochs
    on_nonfinite: Literal["stop", "rollback", "report"] = "report"  # a gradient that is not finite
    most_rollbacks: PositiveInt = 3  # of on_nonfinite: rollback
    compare_ranks_every: PositiveInt | None = None  # steps between two comparisons of the ranks' weights
    telemetry_window_steps: PositiveInt = 10
    calibrate_exchange: NonNegativeInt = 0
    precision: Precision = "float32"
    jit_compile: bool = False
    deterministic: bool = False  # equal runs give equal bits
    seed: NonNegativeInt = 0

    @field_validator("learning_rate", mode="before")
    @classmethod
    def _number_alone(cls, value: Any) -> Any:
        return {"base": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("optimizer", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return components.under_own_name(value, _OPTIMIZERS)

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, name: str) -> str:
        return components.checked(own_name(name, LOSSES), LOSSES)

    @field_validator("ema", mode="before")
    @classmethod
    def _decay_alone(cls, value: Any) -> Any:
        return {"decay": value} if isinstance(value, float) else value

    @field_validator("warm_start", mode="before")
    @classmethod
    def _source_alone(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _loss_with_arguments(cls, values: Any) -> Any:
        loss = values.get("loss") if isinstance(values, dict) else None
        if isinstance(loss, dict) and set(loss) <= {"name", "args"} and "name" in loss:
            return {**values, "loss": loss["name"], "loss_args": loss.get("args", {})}
        return values

    @model_validator(mode="after")
    def _losses_fit(self) -> Train:
        for problem in components.loss_problems(self.loss, self.loss_args, self.from_logits, self.label_smoothing):
            raise ValueError(problem)
        if name := components.repeated(self.metrics, self.loss):
            raise ValueError(f"metrics: {name} stands twice; give it another name (as: ...)")
        if self.outputs and self.metrics:
            raise ValueError("metrics: each of several outputs has its own; use outputs: {NAME: {metrics: ...}}")
        return self

    @model_validator(mode="after")
    def _pipelines_do_less(self) -> Train:
        if self.strategy != "pipeline":
            return self
        if isinstance(self.optimizer, OtherOptimizer):
            raise ValueError("optimizer: a pipeline takes sgd, adam, adamw or lamb; use these, or another strategy")
        for name in ("outputs", "layer_rates", "ema", "warm_start", "freeze", "callbacks"):
            if getattr(self, name):
                raise ValueError(f"{name}: not with a pipeline, whose stages hold different layers")
        return self

    @model_validator(mode="after")
    def _servers_do_less(self) -> Train:
        if self.strategy != "parameter_server" or self.parameter_server is None:
            return self
        refused: dict[str, Any] = {
            "compare_ranks_every": self.compare_ranks_every,
            "calibrate_exchange": self.calibrate_exchange,
            "deterministic": self.deterministic,
            "precision": self.precision == "mixed_float16",
        }
        for name, asked in refused.items():
            if asked:
                raise ValueError(f"{name}: not with a parameter server; remove it, or use strategy horovod")
        rolls_back = self.on_nonfinite == "rollback"
        refused = {"ema": self.ema, "layer_rates": self.layer_rates, "on_nonfinite": rolls_back}
        for name, asked in refused.items():
            if asked and not self.parameter_server.synchronous:
                raise ValueError(
                    f"{name}: not with asynchronous steps, which lose what others write between reading and writing; "
                    "remove it, or use parameter_server: {synchronous: true}"
                )
        return self

    @model_validator(mode="before")
    @classmethod
    def _section_of_the_strategy(cls, values: Any) -> Any:
        name = values.get("strategy") if isinstance(values, dict) else None
        if name in ("pipeline", "parameter_server") and values.get(name) is None:
            return {**values, name: {}}
        return values

    @property
    def keeps_the_steps(self) -> bool:
        """Whether any number of ranks takes the same optimiser steps."""
        servers = self.parameter_server if self.strategy == "parameter_server" else None
        return self.exchange.keeps_the_steps and (servers is None or servers.synchronous)

    @model_validator(mode="after")
    def _one_batch_size(self) -> Train:
        if (self.global_batch_size is None) == (self.batch_size_per_rank is None):
            raise ValueError(
                "give exactly one of global_batch_size (strong scaling) and batch_size_per_rank (weak scaling)"
            )
        return self

    @model_validator(mode="after")
    def _strategy_compiles(self) -> Train:
        if self.jit_compile and self.strategy not in COMPILING:
            raise ValueError(f"jit_compile: {self.strategy} does not compile steps; use {' or '.join(COMPILING)}")
        return self

    @model_validator(mode="after")
    def _ranks_hold_the_same(self) -> Train:
        if self.compare_ranks_every and self.strategy == "pipeline":
            raise ValueError("compare_ranks_every: the ranks of a pipeline hold different layers; remove it")
        return self
