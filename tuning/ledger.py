"""The trials of a study in Optuna's storage: the only file that samples, reports and tells.

Optuna's trial is created when it is sampled and told once; the run of a trial that is started again stays the same.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.private_values import public_change
from saman.configs.schemas.tuning import Asha, CmaEs, GridSearch, Hyperband, Median, Tpe, Tuning
from saman.configs.secrecy import text_without_secrets
from saman.runs.locks import LockHeldError
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.private_values import reveal
from saman.runs.records.schema import integer, number
from saman.runs.trust.run_trust import require_trusted_files
from saman.tuning.halving import RecentHalving
from saman.tuning.journal import DamagedJournalError, Journal
from saman.tuning.space import distributions, grid_values, params_of, settings_of
from saman.tuning.trials import Trial, TrialOutcome

_TOKEN = "token"  # the study's attribute that tells its runs from those of an earlier storage
# What replaying a forged or damaged storage raises, in Optuna and in reading its facts.
_DAMAGE = (DamagedJournalError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
_SPACE = "space"  # the study's attribute with its search space and objectives


def require_optuna() -> Any:
    """Import Optuna; raises ``EnvironmentLack`` where it is missing."""
    try:
        import optuna
    except ImportError:
        raise EnvironmentLack("saman tune needs the package optuna", remedy="pip install 'saman[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return optuna


@contextlib.contextmanager
def explain_storage(study: Tuning, paths: StudyPaths) -> Iterator[None]:
    """Turn failures of a storage that is being opened into errors for users.

    Raises:
        EnvironmentLack: It cannot be reached, read or written.
        UserError: It is damaged, or its URL is none.
    """
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    where = str(paths.journal) if study.storage is None else "storage"
    try:
        yield
    except ArgumentError:  # its text may quote the URL with the password
        remedy = "the URL of a database, as sqlite:///trials.db; leave it out for a journal beside the runs"
        raise UserError("not the URL of a database", where=where, remedy=remedy) from None
    except (StorageInternalError, SQLAlchemyError, ImportError, OSError, LockHeldError) as error:
        first = text_without_secrets(str(error).split("\n", 1)[0])
        raise EnvironmentLack(f"the trials cannot be read or written: {first}", where=where) from None
    except _DAMAGE as error:
        detail = str(error) if isinstance(error, DamagedJournalError) else "an entry does not fit those before it"
        remedy = "restore it from a backup, or choose another name for the study"
        raise UserError(f"the trials are damaged: {detail}", where=where, remedy=remedy) from None


class Ledger:
    """The trials of a study. Several readers may open it; a single process samples and tells (``study.lock``).

    Args:
        study: The study.
        paths: Its folder.
        epochs: Epochs of a whole trial, for Hyperband; ``None`` if unknown.

    Raises:
        EnvironmentLack: Optuna is missing, or the storage cannot be reached.
        UserError: The storage has a study of this name with another space or other objectives.
    """

    def __init__(self, study: Tuning, paths: StudyPaths, epochs: int | None = None) -> None:
        optuna = require_optuna()
        self._optuna, self._tuning = optuna, study
        self._distributions = distributions(study.space)
        directions = [objective.goal for objective in study.objectives]
        self._done: dict[int, Trial] = {}
        with explain_storage(study, paths):
            self._storage = _storage(study, paths)
            self._study = optuna.create_study(
                study_name=study.name, storage=self._storage, directions=directions, load_if_exists=True,
                pruner=_pruner(study, epochs),
            )  # fmt: skip
            self._number = self._storage.get_study_id_from_name(study.name)
            self._require_same()
            self.trials()
        # A sampler that begins with the same seed again would repeat the points of its first trials.
        self._study.sampler = _sampler(study, study.seed + 1_000_003 * len(self.trials()))

    def _require_same(self) -> None:
        """Refuse to mix trials of different spaces or objectives: their values could not be compared."""
        asked = {
            "space": {key: part.model_dump(mode="json") for key, part in self._tuning.space.items()},
            "objectives": [objective.model_dump(mode="json") for objective in self._tuning.objectives],
            "experiment": self._tuning.experiment,
            "set": {key: public_change(key, value) for key, value in self._tuning.changes.items()},
        }
        text = json.dumps(asked, sort_keys=True)
        kept = self._study.user_attrs.get(_SPACE)
        if kept is None:
            self._study.set_user_attr(_SPACE, text)
            return
        before = json.loads(kept)
        changed = [key for key in asked if before.get(key) != json.loads(text)[key]]
        if changed:
            raise UserError(
                f"the trials so far have another {', '.join(changed)}",
                where=f"study {self._tuning.name}",
                remedy="another name for the changed study",
            )

    @property
    def token(self) -> str:
        """Identifies this storage of the study."""
        kept = self._study.user_attrs.get(_TOKEN)
        if kept is None:
            self._study.set_user_attr(_TOKEN, kept := secrets.token_hex(4))
        return str(kept)

    # ---- reading -----------------------------------------------------------------------------------------

    def trials(self) -> list[Trial]:
        """Every trial, in the order of sampling."""
        found = []
        for frozen in self._study.get_trials(deepcopy=False):
            known = self._done.get(frozen.number)
            trial = known or self._trial(frozen)
            if trial.outcome is not TrialOutcome.RUNNING:
                self._done[trial.number] = trial
            found.append(trial)
        return [trial for trial in found if trial.settings]

    def _trial(self, frozen: Any) -> Trial:
        facts = frozen.user_attrs
        state = self._optuna.trial.TrialState
        outcome = TrialOutcome.FAILED if frozen.state is state.FAIL else TrialOutcome.RUNNING
        if frozen.state.is_finished() and "outcome" in facts:
            outcome = TrialOutcome(facts["outcome"])
        return Trial(
            number=frozen.number,
            settings=settings_of(self._tuning.space, frozen.params),
            outcome=outcome,
            values=tuple(map(float, frozen.values)) if frozen.state is state.COMPLETE else None,
            epochs={int(epoch): float(value) for epoch, value in sorted(frozen.intermediate_values.items())},
            run=None if facts.get("run") is None else str(facts["run"]),
            retries=integer(facts.get("retries")) or 0,
            pruned_at=integer(facts.get("pruned_at")),
            continues=integer(facts.get("continues")),
            resumed=bool(facts.get("resumed")),
            detail=str(facts.get("detail", "")),
            node_hours=number(facts.get("node_hours")) or 0.0,
        )

    def importances(self, objective: int) -> dict[str, float]:
        """The importance of each key for an objective (PED-ANOVA, Watanabe et al., 2023); empty if it is unknown."""
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        complete = [trial for trial in self.trials() if trial.values is not None]
        if len({trial.values[objective] for trial in complete if trial.values}) < 4:
            return {}
        sign = -1.0 if self._tuning.objectives[objective].goal == "maximize" else 1.0  # low targets count as good
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = get_param_importances(
                    self._study, evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=False),
                    target=lambda frozen: sign * frozen.values[objective],
                )  # fmt: skip
        except (ValueError, RuntimeError):  # such as a key with a single value
            return {}
        return {key: float(value) for key, value in found.items() if math.isfinite(value)}

    # ---- writing -----------------------------------------------------------------------------------------

    def ask(self) -> Trial:
        """Sample the next trial, or take one that ``enqueue`` asked for."""
        asked = self._study.ask(self._distributions)
        return next(trial for trial in self.trials() if trial.number == asked.number)

    def enqueue(self, settings: Mapping[str, Any], **facts: Any) -> None:
        """Let the next sampled trial have these values and facts."""
        self._study.enqueue_trial(params_of(self._tuning.space, settings), user_attrs=facts)

    def note(self, number: int, **facts: Any) -> None:
        """Keep facts of a running trial."""
        identity = self._identity(number)
        for name, value in facts.items():
            self._storage.set_trial_user_attr(identity, name, value)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Report the objective at an epoch; returns whether the pruner decides against the trial.

        An epoch that was reported before, as by the start before a retry, keeps its value.
        """
        identity = self._identity(number)
        if epoch not in self._storage.get_trial(identity).intermediate_values:
            self._storage.set_trial_intermediate_value(identity, epoch, value)
        return bool(self._study.pruner.prune(self._study, self._storage.get_trial(identity)))

    def tell(self, number: int, outcome: TrialOutcome, values: Sequence[float] | None = None, **facts: Any) -> None:
        """End a trial. A trial that has ended is left as it is, so that telling twice counts once."""
        states = self._optuna.trial.TrialState
        told = states.FAIL
        if outcome is TrialOutcome.COMPLETE:
            told = states.COMPLETE
        elif outcome in (TrialOutcome.PRUNED, TrialOutcome.DIVERGED):  # bad values, and samplers learn from them
            told = states.PRUNED
        identity = self._identity(number)
        if self._storage.get_trial(identity).state.is_finished():
            return
        self.note(number, outcome=outcome.value, **facts)
        given = list(values) if outcome is TrialOutcome.COMPLETE and values is not None else None
        self._study.tell(number, given, told, skip_if_finished=True)

    def _identity(self, number: int) -> int:
        return int(self._storage.get_trial_id_from_study_id_trial_number(self._number, number))


def make_study_folder(paths: StudyPaths) -> None:
    """Make the folder of a study, never writable by others, whatever the umask."""
    paths.path.parent.mkdir(parents=True, exist_ok=True)
    paths.path.mkdir(mode=0o755, exist_ok=True)


def _storage(study: Tuning, paths: StudyPaths) -> Any:
    from optuna.storages import JournalStorage, RDBStorage

    if study.storage is not None:
        # ${env:NAME} and ${file:PATH} keep the password out of the study's file
        return RDBStorage(reveal(RunPaths(paths.path), study.storage, "storage"))
    make_study_folder(paths)
    require_trusted_files((paths.path, paths.journal), "tune")
    return JournalStorage(Journal(paths.journal, paths.journal_lock))


def _sampler(study: Tuning, seed: int) -> Any:
    from optuna import samplers

    asked = study.sampler
    if isinstance(asked, GridSearch):
        return _grid_sampler(study)
    if isinstance(asked, Tpe):
        return samplers.TPESampler(
            n_startup_trials=asked.startup_trials, multivariate=True, constant_liar=True, seed=seed % 2**32
        )
    if isinstance(asked, CmaEs):
        from saman.tuning.cma_state import CmaEsWithoutCode

        return CmaEsWithoutCode(
            n_startup_trials=asked.startup_trials, warn_independent_sampling=False, seed=seed % 2**32
        )
    return samplers.RandomSampler(seed=seed % 2**32)


def _grid_sampler(study: Tuning) -> Any:
    from optuna.samplers import GridSampler

    class _Sampler(GridSampler):  # type: ignore[misc, unused-ignore]
        """Optuna's grid, which stops ``Study.optimize`` after the last point; the campaign counts for itself."""

        def after_trial(self, *_: Any) -> None:
            """Do not stop a loop that is not running."""

    return _Sampler(grid_values(study.space), seed=study.seed)


def _halving_pruner(asked: Asha, maximize: bool) -> Any:
    from optuna.pruners import SuccessiveHalvingPruner

    first_rung = asked.min_epochs * asked.reduction_factor**asked.skip_rungs
    recent = RecentHalving(first_rung, asked.reduction_factor, asked.recent_trials, maximize)

    class _Pruner(SuccessiveHalvingPruner):  # type: ignore[misc, unused-ignore]
        """Optuna's successive halving; a trial must also be good among the newest of its rung."""

        def prune(self, study: Any, trial: Any) -> bool:
            """Whether the trial is to stop."""
            if super().prune(study, trial):
                return True
            others = {each.number: each.intermediate_values for each in study.get_trials(deepcopy=False)}
            reported = {number: values for number, values in others.items() if values}
            return recent.is_behind(trial.number, {**reported, trial.number: trial.intermediate_values})

    return _Pruner(
        min_resource=asked.min_epochs, reduction_factor=asked.reduction_factor,
        min_early_stopping_rate=asked.skip_rungs,
    )  # fmt: skip


def _pruner(study: Tuning, epochs: int | None) -> Any:
    from optuna import pruners

    asked = study.pruner
    if isinstance(asked, Asha):
        return _halving_pruner(asked, study.objectives[0].goal == "maximize")
    if isinstance(asked, Median):
        return pruners.MedianPruner(n_startup_trials=asked.startup_trials, n_warmup_steps=asked.warmup_epochs)
    if isinstance(asked, Hyperband):
        most = asked.max_epochs or epochs
        if most is None:
            raise UserError("hyperband needs the epochs of a whole trial", where="pruner", remedy="max_epochs: 27")
        return pruners.HyperbandPruner(
            min_resource=asked.min_epochs, max_resource=most, reduction_factor=asked.reduction_factor
        )
    return pruners.NopPruner()
