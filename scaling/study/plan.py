"""The plan of a study: every run, keyed by the hash of its resolved experiment and its repeat, in a random order."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.loading.experiments import LoadedExperiment, load_experiment
from saman.configs.loading.studies import base_experiment
from saman.configs.private_values import ENVIRONMENT, public_changes
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.study import RANKS, STAGES, Study
from saman.configs.units import parse_duration
from saman.launcher.node.machine import this_node
from saman.runs.records.study import ImpossibleSettings, PlannedRunRecord, StudyRecord


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan. ``node_hours_bound`` is the most it may cost: its nodes for its time limit."""

    key: str
    digest: str
    repeat: int
    settings: Mapping[str, Any]
    loaded: LoadedExperiment
    node_hours_bound: float

    @property
    def ranks(self) -> int:
        """The number of ranks."""
        return self.loaded.experiment.resources.ranks

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return self.loaded.experiment.resources.nodes

    def record(self) -> PlannedRunRecord:
        """The run's place in ``study.json``."""
        return PlannedRunRecord(self.key, self.digest, self.repeat, dict(self.settings), self.ranks, self.nodes)

    def to_json(self) -> dict[str, Any]:
        """The planned run as plain values, as in ``study.json``."""
        return asdict(self.record())


@dataclass(frozen=True)
class StudyPlan:
    """A study's runs in their order, and the combinations that cannot be run with their reasons."""

    study: Study
    file: Path
    runs: tuple[PlannedRun, ...]
    impossible: tuple[tuple[Mapping[str, Any], str], ...]
    cores_per_rank: int
    notes: tuple[str, ...]

    def record(self) -> StudyRecord:
        """The content of ``study.json``; a report finds missing runs by it."""
        return StudyRecord(
            study=public_changes(self.study.resolved()),
            runs=tuple(run.record() for run in self.runs),
            file=str(self.file.resolve()),
            cores_per_rank=self.cores_per_rank,
            impossible=tuple(ImpossibleSettings(dict(settings), reason) for settings, reason in self.impossible),
        )

    def to_json(self) -> dict[str, Any]:
        """The plan as plain values, as in ``study.json``."""
        return self.record().to_json()


Adapt = Callable[[LoadedExperiment], LoadedExperiment]


def _unchanged(loaded: LoadedExperiment) -> LoadedExperiment:
    return loaded


def make_plan(
    study: Study,
    file: Path,
    cores_per_node: int,
    exclude: Sequence[Mapping[str, Any]] = (),
    adapt: Adapt = _unchanged,
) -> StudyPlan:
    """Plan every run of a study.

    Args:
        study: The study. Combinations that are not valid experiments (``single`` on two ranks) are listed with their
            reasons.
        file: Its file, for messages and ``study.json``.
        cores_per_node: Cores of the nodes, divided among the ranks of a node.
        exclude: Values on axes; every combination that has all values of an entry is left out.
        adapt: Applied to every experiment, to replace what only the caller can look up.

    Raises:
        UserError: No combination is valid, two are the same experiment, or the kind of batch size does not match the
            kind of scaling.
    """
    base = base_experiment(study, file)
    possible: list[tuple[Mapping[str, Any], LoadedExperiment]] = []
    impossible: list[tuple[Mapping[str, Any], str]] = []
    last: UserError | None = None
    for settings in study.combinations():
        if any(cell.items() <= settings.items() for cell in exclude):
            impossible.append((settings, "excluded on the command line"))
            continue
        try:
            possible.append((settings, adapt(_load(study, base, settings))))
        except UserError as error:
            impossible.append((settings, "; ".join(each.problem for each in (error, *error.others))))
            last = error
    if not possible:
        raise last or UserError("every combination is excluded", where="--exclude", remedy="exclude fewer")
    for _, loaded in possible:
        _check_batch(study, loaded, str(file))
    cores, note = _cores(study, [loaded for _, loaded in possible], cores_per_node)
    runs = [run for settings, loaded in possible for run in _repeats(study, settings, _with_cores(loaded, cores))]
    if len({run.key for run in runs}) < len(runs):
        raise UserError("two combinations of the axes give the same experiment", where=f"{file}: axes")
    return StudyPlan(study, file, tuple(in_random_order(runs, study.order_seed)), tuple(impossible), cores, (note,))


def cores_of_nodes(cluster: Cluster | None, partition: str | None = None) -> int:
    """Cores of the nodes that all runs of a study must fit.

    Args:
        cluster: the cluster; ``None`` means this machine.
        partition: its partition; by default the partition with the fewest cores per node.
    """
    if cluster is None:
        return this_node().cores
    named = [each.cores_per_node for each in cluster.partitions if partition in (None, each.name)]
    return min(named or [each.cores_per_node for each in cluster.partitions])


def in_random_order(runs: Sequence[PlannedRun], seed: int) -> list[PlannedRun]:
    """Order runs by repeat, shuffled within each repeat, so that drift of the machine affects all combinations alike.

    A randomised complete block design (Montgomery, Design and Analysis of Experiments, ch. 4).
    """
    generator = random.Random(seed)
    ordered = []
    for repeat in sorted({run.repeat for run in runs}):
        block = sorted((run for run in runs if run.repeat == repeat), key=lambda run: run.key)
        generator.shuffle(block)
        ordered += block
    return ordered


def _with_cores(loaded: LoadedExperiment, cores: int) -> LoadedExperiment:
    """The experiment with its cores per rank, which no other key depends on."""
    resources = loaded.experiment.resources.model_copy(update={"cpus_per_rank": cores})
    return replace(loaded, experiment=loaded.experiment.model_copy(update={"resources": resources}))


def _load(study: Study, base: str, settings: Mapping[str, Any]) -> LoadedExperiment:
    overrides = study.overrides(dict(settings))
    varied = [key.removeprefix(f"{ENVIRONMENT}.") for key in settings if key.startswith(f"{ENVIRONMENT}.")]
    if varied:  # study.json names these values; private values would make the runs the same experiment
        overrides.append(f"launch.public=[{', '.join(varied)}]")
    ranks = {**study.changes, **settings}.get(RANKS)
    if ranks is not None and (not isinstance(ranks, int) or isinstance(ranks, bool)):
        raise UserError(f"{ranks!r} is not a number of ranks", where="axes.ranks")
    loaded = load_experiment(base, overrides, ranks)
    return _unsplit(study, base, overrides, ranks, loaded) if loaded.experiment.train.strategy != "pipeline" else loaded


def _unsplit(
    study: Study, base: str, overrides: Sequence[str], ranks: int | None, loaded: LoadedExperiment
) -> LoadedExperiment:
    """The experiment of a strategy other than ``pipeline`` in a study over stages: valid for 1 stage only."""
    asked = loaded.experiment.train.pipeline
    if STAGES not in {**study.changes, **study.axes} or asked is None:
        return loaded
    strategy = loaded.experiment.train.strategy
    if asked.stages > 1:
        raise UserError(f"{strategy} does not split a model into {asked.stages} stages", where=f"axes.{STAGES}")
    return load_experiment(base, [*overrides, "train.pipeline=null"], ranks)


def _check_batch(study: Study, loaded: LoadedExperiment, where: str) -> None:
    train = loaded.experiment.train
    given, other = ("global_batch_size", "batch_size_per_rank")[:: 1 if study.scaling == "strong" else -1]
    if getattr(train, given) is None:
        kind = "weak" if study.scaling == "strong" else "strong"
        raise UserError(
            f"{study.scaling} scaling needs train.{given}, but the experiment gives train.{other}",
            where=f"{where}: scaling",
            remedy=f"set: {{batch_size: …}} in the study, or scaling: {kind}",
        )


def _cores(study: Study, loaded: Sequence[LoadedExperiment], cores_per_node: int) -> tuple[int, str]:
    """The cores per rank of every run, and the reason in words."""
    most = max(each.experiment.resources.ranks_per_node for each in loaded)
    if study.cpus_per_rank != "auto":
        return study.cpus_per_rank, f"{study.cpus_per_rank} cores per rank in every run, set by the study"
    cores = max(1, cores_per_node // most)
    shared = "; ranks share cores" if most > cores_per_node else ""
    return cores, f"{cores_per_node} cores ÷ {most} ranks per node at most = {cores} per rank in every run{shared}"


def _repeats(study: Study, settings: Mapping[str, Any], loaded: LoadedExperiment) -> list[PlannedRun]:
    experiment = loaded.experiment
    digest = experiment.digest()
    bound = experiment.resources.nodes * parse_duration(experiment.resources.time_limit) / 3600
    first = PlannedRun(f"{digest[:16]}-1", digest, 1, settings, loaded, bound)
    return [replace(first, key=f"{digest[:16]}-{number}", repeat=number) for number in range(1, study.repeats + 1)]
