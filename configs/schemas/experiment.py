"""The schema of an experiment: the description of a training run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationInfo, field_validator, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.private_values import set_aside
from saman.configs.problems import Problems, Strict
from saman.configs.schemas.builtins import MODELS, known, resolved_args
from saman.configs.schemas.components import JobComponent
from saman.configs.schemas.data.section import Data
from saman.configs.schemas.launch.elastic import Elastic
from saman.configs.schemas.launch.exchange import HorovodEngine
from saman.configs.schemas.launch.restart import Restart
from saman.configs.schemas.launch.tf_config import TfConfig
from saman.configs.schemas.learning.components import metric_names
from saman.configs.schemas.monitoring import Metrics, Notify
from saman.configs.schemas.tracking import Tracking
from saman.configs.schemas.training import ONE_PROCESS, Train, global_batch_size
from saman.configs.units import Clock, Size

Starter = Literal["auto", "processes", "horovodrun", "mpirun", "srun"]


class Model(Strict):
    """The Keras model: a built-in name or ``package.module:function``, called with ``args``.

    The user's function is called as ``fn(input_shape, **args)`` if it takes ``input_shape``, else as ``fn(**args)``.
    """

    build: str
    args: dict[str, Any] = {}

    @field_validator("build")
    @classmethod
    def _known(cls, name: str) -> str:
        return known(MODELS, name)

    @field_validator("args")
    @classmethod
    def _complete(cls, args: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return resolved_args(MODELS, info.data.get("build"), args)


class Resources(Strict):
    """The number of ranks and the resources of each. A rank is a replica that computes."""

    nodes: PositiveInt = 1
    ranks_per_node: PositiveInt = 1
    devices_per_process: PositiveInt | Literal["auto"] = "auto"
    cpus_per_rank: PositiveInt | Literal["auto"] = "auto"
    threads_per_rank: PositiveInt | Literal["auto"] = "auto"  # of TensorFlow and OpenMP; auto: a thread per core
    binding: Literal["cores", "none"] = "cores"  # none lets the system move ranks between the cores of a node
    gpus_per_rank: NonNegativeInt = 0
    spare_nodes: NonNegativeInt = 0  # of a job, idle until launch.restart or launch.elastic needs them for lost nodes
    time_limit: Clock = "01:00:00"
    memory_per_rank: Size | Literal["auto"] = "auto"
    components: list[JobComponent] = []  # beside the ranks

    @field_validator("components")
    @classmethod
    def _names_differ(cls, value: list[JobComponent]) -> list[JobComponent]:
        names = [component.name for component in value]
        if len(set(names)) < len(names):
            raise ValueError(f"two components have the same name: {', '.join(sorted(names))}")
        return value

    @property
    def ranks(self) -> int:
        """The number of ranks: nodes × ranks per node."""
        return self.nodes * self.ranks_per_node


STALL_SECONDS = {"start": 300.0, "compile": 600.0, "train": 120.0, "validate": 300.0, "checkpoint": 300.0}


class Launch(Strict):
    """How ranks are started and watched."""

    starter: Starter = Field("auto", alias="with")
    on_stall: Literal["report", "abort"] = "report"
    on_straggler: Literal["report", "exclude"] = "report"
    metrics: Metrics | None = None
    restart: Restart | None = None  # {} restarts with the defaults; null leaves a failed run to saman resume
    elastic: Elastic | None = None  # strategy horovod: ranks may be lost and replaced while the run goes on
    stall_seconds: dict[Literal["start", "compile", "train", "validate", "checkpoint"], PositiveFloat] = {}
    horovod: HorovodEngine = HorovodEngine()
    tf_config: TfConfig | None = None  # of a user's program: it gets TF_CONFIG, with these roles beside workers
    environment: dict[str, str] = {}
    public: list[str] = []  # names in environment; everyone may read their values
    directory: Literal["user", "run", "copy"] = "user"  # of a user's program: where it was typed, run folder, code copy
    log_limit: Size = "256M"  # of each process's log with its older part
    stop_signal: Literal["USR1", "USR2", "TERM", "INT", "HUP", "none"] = "USR1"  # asks a user's program to checkpoint

    @model_validator(mode="after")
    def _can_exclude(self) -> Launch:
        if self.on_straggler == "exclude" and self.elastic is None:  # a rank only leaves a run that goes on without it
            raise ValueError("on_straggler: exclude needs a run whose ranks may leave it (launch.elastic); use report")
        return self

    @field_validator("stall_seconds", mode="after")
    @classmethod
    def _every_phase(cls, value: dict[str, float]) -> dict[str, float]:
        return {**STALL_SECONDS, **value}

    @field_validator("environment", mode="after")
    @classmethod
    def _names_of_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not (name.isascii() and name.isidentifier()):
                raise ValueError(f"{name!r} is not the name of an environment variable")
            if "\0" in text:
                raise ValueError(f"the value of {name} contains a NUL character")
        return value


class Condition(Strict):
    """A bound on a final metric."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_bound(self) -> Condition:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self


class Publish(Strict):
    """The model name under which a finished run is published, and the condition for it."""

    model: Name
    condition: Condition | None = Field(None, alias="if")


class Experiment(Strict):
    """A complete experiment, as ``saman run`` and ``saman submit`` take it."""

    name: Name
    model: Model
    data: Data
    train: Train
    resources: Resources = Resources()
    launch: Launch = Field(default_factory=lambda: Launch.model_validate({}))
    publish: Publish | None = None
    export: bool = True  # the model of a completed run; false for runs that only measure
    tracking: Tracking | None = None
    notify: Notify | None = None

    @model_validator(mode="after")
    def _possible(self) -> Experiment:
        found = [
            *_ranks_fit(self),
            *_ranks_exchange(self),
            *_elastic_fits(self),
            *_batch_splits(self),
            *_metrics_exist(self),
            *_outputs_fit(self),
            *_published_models_exist(self),
        ]
        if found:
            raise Problems(found)
        return self

    @property
    def global_batch_size(self) -> int:
        """Examples per optimiser step over all ranks."""
        ranks = self.resources.ranks
        if self.train.strategy == "parameter_server":
            ranks = self.replicas
        return global_batch_size(self.train.global_batch_size, self.train.batch_size_per_rank, ranks)

    @property
    def devices_per_process(self) -> int:
        """Ranks per process: all ranks of a node for ``mirrored`` and its like, else 1 by default."""
        asked = self.resources.devices_per_process
        if asked != "auto":
            return asked
        pipeline = self.train.pipeline
        local = self.train.strategy == "pipeline" and pipeline is not None and pipeline.devices == "local"
        return self.resources.ranks_per_node if local or self.train.strategy in ONE_PROCESS else 1

    @property
    def uses_horovod(self) -> bool:
        """Whether the ranks communicate through Horovod."""
        strategy = self.train.strategy
        return strategy == "horovod" or (strategy == "pipeline" and self.devices_per_process == 1)

    @property
    def stages(self) -> int:
        """Ranks per copy of the model; 1 except for ``pipeline``."""
        return self.train.pipeline.stages if self.train.strategy == "pipeline" and self.train.pipeline else 1

    @property
    def replicas(self) -> int:
        """Ranks that share a step: ranks ÷ stages; with servers, all workers or (asynchronous) a single one."""
        servers = self.train.parameter_server
        if self.train.strategy == "parameter_server" and servers is not None:
            return servers.replicas(self.resources.ranks)
        return self.resources.ranks // self.stages

    def metrics(self) -> frozenset[str]:
        """The names of the metrics that this experiment computes."""
        names = set(metric_names(self.train.loss, self.train.metrics))
        if self.train.outputs:
            several = self.train.outputs.items()
            names = {"loss", *(f"{output}_{name}" for output, spec in several for name in spec.metric_names())}
        validated = {f"val_{name}" for name in names} if self.data.has_validation else set()
        return frozenset(names | validated | ({f"test_{name}" for name in names} if self.data.has_test else set()))

    def resolved(self) -> dict[str, Any]:
        """Plain values including defaults; loading them gives an equal experiment."""
        return self.model_dump(mode="json", by_alias=True)

    def written(self) -> dict[str, Any]:
        """The experiment's plain values as others may read them: references replace private values."""
        return set_aside(self.resolved())[0]

    def digest(self) -> str:
        """SHA-256 (hex) of the resolved experiment; equal for experiments that differ only in private values."""
        return digest_of(self.written())


def digest_of(resolved: Mapping[str, Any]) -> str:
    """Compute the digest of an experiment by its schema, SHA-256 (hex); the order of keys does not matter.

    >>> digest_of({"name": "a", "seed": 1}) == digest_of({"seed": 1, "name": "a"})
    True
    """
    text = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _ranks_exchange(experiment: Experiment) -> Iterator[UserError]:
    train, ranks = experiment.train, experiment.resources.ranks
    if problem := train.exchange.problem_on(train.strategy, ranks):
        yield UserError(problem, where="train.exchange")


def _ranks_fit(experiment: Experiment) -> Iterator[UserError]:
    strategy, resources = experiment.train.strategy, experiment.resources
    if strategy == "single" and resources.ranks > 1:
        yield UserError(
            f"single trains on 1 rank, but the request is for {resources.ranks}",
            where="train.strategy",
            remedy="horovod, or resources: {nodes: 1, ranks_per_node: 1}",
        )
    if strategy in ONE_PROCESS and resources.nodes > 1:
        yield UserError(
            f"{strategy} trains on 1 node, but the request is for {resources.nodes}",
            where="resources.nodes",
            remedy="multi_worker or horovod spans nodes",
        )
    yield from _stages_fit(experiment)
    yield from _roles_fit(experiment)
    devices = experiment.devices_per_process
    if strategy in ("single", "horovod", "parameter_server") and devices > 1:
        yield UserError(
            f"{strategy} has 1 device per process, but the request is for {devices}",
            where="resources.devices_per_process",
            remedy="1, or strategy mirrored or multi_worker",
        )
    elif resources.ranks_per_node % devices or (strategy in ONE_PROCESS and devices != resources.ranks_per_node):
        right = "every rank of a node" if strategy in ONE_PROCESS else f"a divisor of {resources.ranks_per_node}"
        yield UserError(
            f"{resources.ranks_per_node} ranks per node do not divide into processes of {devices} devices",
            where="resources.devices_per_process",
            remedy=f"auto, or {right}",
        )


def _roles_fit(experiment: Experiment) -> Iterator[UserError]:
    servers, ranks = experiment.train.parameter_server, experiment.resources.ranks
    if experiment.train.strategy == "parameter_server" and servers is not None and servers.workers(ranks) < 1:
        yield UserError(
            f"too few ranks ({ranks}) for a coordinator, the servers ({servers.servers}) and a worker",
            where="resources",
            remedy=f"-np {servers.servers + 3} has 2 workers",
        )
    if experiment.launch.tf_config is not None:
        yield UserError(
            "an experiment's strategy sets TF_CONFIG itself",
            where="launch.tf_config",
            remedy="remove it; it is for programs of your own (saman run -- COMMAND)",
        )


def _stages_fit(experiment: Experiment) -> Iterator[UserError]:
    stages, resources = experiment.stages, experiment.resources
    pipeline = experiment.train.pipeline if experiment.train.strategy == "pipeline" else None
    if resources.ranks % stages:
        lower = resources.ranks // stages * stages
        yield UserError(
            f"{resources.ranks} ranks are not a multiple of {stages} stages",
            where="train.pipeline.stages",
            remedy=f"{f'{lower} or ' if lower else ''}{lower + stages} ranks (-np), or a number of stages that divides",
        )
    elif pipeline and pipeline.devices == "local" and (resources.nodes > 1 or resources.ranks != stages):
        yield UserError(
            f"local stages share a process; the request is for {resources.ranks} ranks on {resources.nodes} nodes",
            where="train.pipeline.devices",
            remedy=f"-np {stages} on one node, or devices: ranks",
        )


def _elastic_fits(experiment: Experiment) -> Iterator[UserError]:
    launch, elastic, ranks = experiment.launch, experiment.launch.elastic, experiment.resources.ranks
    if elastic is None:
        return
    if experiment.train.strategy != "horovod":
        yield UserError(
            f"{experiment.train.strategy} cannot lose ranks while it trains",
            where="launch.elastic",
            remedy="train.strategy: horovod, or launch.restart, which starts all ranks again",
        )
    if elastic.max != ranks:
        yield UserError(
            f"max is {elastic.max}, but the request is for {ranks} ranks",
            where="launch.elastic.max",
            remedy=f"max: {ranks}, or as many ranks (-np {elastic.max})",
        )
    yield from _warm_spares_fit(elastic, experiment.resources)
    if launch.starter not in ("auto", "processes"):
        yield UserError(
            f"{launch.starter} ends all ranks when one is lost",
            where="launch.with",
            remedy="auto or processes",
        )
    if experiment.train.deterministic:
        yield UserError(
            "an elastic run is not equal in every bit: its sums depend on the number of ranks",
            where="train.deterministic",
            remedy="false, or no launch.elastic",
        )
    if not experiment.train.exchange.is_plain:
        yield UserError(
            "an elastic run exchanges gradients in the plain way only",
            where="train.exchange",
            remedy="no train.exchange, or no launch.elastic",
        )
    if experiment.train.calibrate_exchange:
        yield UserError(
            "an elastic run has no exchange to measure before its first step",
            where="train.calibrate_exchange",
            remedy="0, or no launch.elastic",
        )


def _warm_spares_fit(elastic: Elastic, resources: Resources) -> Iterator[UserError]:
    if not elastic.warm_spares:
        return
    places = resources.spare_nodes * resources.ranks_per_node
    if resources.nodes > 1 and elastic.warm_spares > places:
        yield UserError(
            f"{elastic.warm_spares} warm spares need spare nodes for as many ranks, there is room for {places}",
            where="launch.elastic.warm_spares",
            remedy=f"resources.spare_nodes: {-(-elastic.warm_spares // resources.ranks_per_node)}",
        )
    if resources.nodes == 1 and resources.gpus_per_rank:
        yield UserError(
            "a warm spare on the node of the ranks finds no free GPU",
            where="launch.elastic.warm_spares",
            remedy="0, or a run on several nodes with resources.spare_nodes",
        )


def _batch_splits(experiment: Experiment) -> Iterator[UserError]:
    train, ranks = experiment.train, max(1, experiment.replicas)
    parts = ranks * train.micro_batches
    size = experiment.global_batch_size
    unit = "ranks" if ranks == experiment.resources.ranks else "replicas"
    if experiment.launch.elastic is not None and size >= parts:
        return  # the slices of a changing number of ranks differ by an example
    if size % parts:
        key = "global_batch_size" if train.global_batch_size else "batch_size_per_rank"
        micro = f" × {train.micro_batches} micro-batches" if train.micro_batches > 1 else ""
        lower = size // parts * parts
        near = f"for example {lower} or {lower + parts}" if lower else f"for example {parts}"
        yield UserError(
            f"a global batch of {size} cannot be split evenly over {ranks} {unit}{micro}",
            where=f"train.{key}",
            remedy=near if train.global_batch_size else f"a multiple of micro_batches ({train.micro_batches})",
        )


def _metrics_exist(experiment: Experiment) -> Iterator[UserError]:
    asked = []
    if experiment.train.early_stop:
        asked.append(("train.early_stop.metric", experiment.train.early_stop.metric))
    if plateau := experiment.train.learning_rate.reduce_on_plateau:
        asked.append(("train.learning_rate.reduce_on_plateau.metric", plateau.metric))
    if experiment.publish and experiment.publish.condition:
        asked.append(("publish.if.metric", experiment.publish.condition.metric))
    for where, metric in asked:
        computed = experiment.metrics()
        if where.startswith("train."):  # the test examples see only the final model
            computed = frozenset(name for name in computed if not name.startswith("test_"))
        if metric not in computed:
            yield UserError(
                f"this experiment does not compute the metric {metric!r}", where=where, remedy=choices(metric, computed)
            )


def _outputs_fit(experiment: Experiment) -> Iterator[UserError]:
    if experiment.train.outputs and experiment.data.class_weights is not None:
        yield UserError(
            "a model with several outputs has no single class per example",
            where="data.class_weights",
            remedy="weights of examples (a third part), or weight: in train.outputs",
        )


def _published_models_exist(experiment: Experiment) -> Iterator[UserError]:
    if experiment.publish is not None and not experiment.export:
        yield UserError("a run without an export cannot be published", where="export", remedy="true, or no publish")
