"""Which versions and labels the registry wants served, and what a server makes of it with the versions it has. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from saman.registry.store.layout import VersionSpec
from saman.registry.store.model_state import KEPT, STABLE, ModelState, VersionStatus

MOST_PROMOTABLE = 16  # versions that wait as checked copies


@dataclass(frozen=True)
class WantedModel:
    """The registry's wish: ``load`` in the order of importance, ``default`` for requests without version and label.

    ``promotable`` are further versions that a label may move to, the newest first.
    """

    name: str
    default: int | None
    labels: Mapping[str, int] = field(default_factory=dict)
    load: tuple[int, ...] = ()
    promotable: tuple[int, ...] = ()


def wanted_model(state: ModelState, spec: VersionSpec, extra: Iterable[int] = ()) -> WantedModel:
    """What to serve of a model.

    Besides labelled versions the newest is loaded, so that its promotion takes effect at once.

    Args:
        state: The model in the registry.
        spec: What the server was asked for: a model, a label or a version.
        extra: Further versions, of a rollout.
    """
    offered = [version.number for version in state.present() if version.status is VersionStatus.PUBLISHED]
    labels = {label: number for label, number in state.labels.items() if number in offered}
    if spec.number is not None:
        known = state.versions.get(spec.number)
        default = spec.number if known is not None and known.status in KEPT else None
        labels = {label: number for label, number in labels.items() if number == default}
        return WantedModel(state.name, default, labels, () if default is None else (default,))
    if spec.label is not None:
        default = labels.get(spec.label)
        kept = {spec.label: default} if default is not None else {}
        only = () if default is None else (default,)
        return WantedModel(state.name, default, kept, only, _others(offered, only))
    newest = offered[-1:]
    default = labels.get(STABLE, newest[0] if newest else None)
    first = [] if default is None else [default]
    load = tuple(dict.fromkeys([*first, *labels.values(), *(n for n in extra if n in offered), *newest]))
    return WantedModel(state.name, default, labels, load, _others(offered, load))


def _others(offered: Iterable[int], load: Collection[int]) -> tuple[int, ...]:
    return tuple(sorted((number for number in offered if number not in load), reverse=True)[:MOST_PROMOTABLE])


@dataclass(frozen=True)
class ServedLabels:
    """What requests reach now: ``default``, and labels with their versions."""

    default: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    def numbers(self) -> set[int]:
        """The versions that requests reach without naming a number."""
        return {number for number in (self.default, *self.labels.values()) if number is not None}


def next_labels(wanted: WantedModel, now: ServedLabels, loaded: Collection[int]) -> ServedLabels:
    """Move the default and the labels as far as versions are loaded; what cannot move yet stays.

    A label whose version is not loaded keeps its present version, and the default is never lost while any version of it
    is loaded.
    """

    def settle(new: int | None, old: int | None) -> int | None:
        if new in loaded:
            return new
        return old if old in loaded else None

    settled = {label: settle(number, now.labels.get(label)) for label, number in wanted.labels.items()}
    labels = {label: number for label, number in settled.items() if number is not None}
    return ServedLabels(settle(wanted.default, now.default), labels)


def superfluous(wanted: WantedModel, served: ServedLabels, loaded: Collection[int]) -> list[int]:
    """Loaded versions that neither the registry wants nor requests reach; never the only loaded version."""
    kept = set(wanted.load) | served.numbers()
    leaving = [number for number in sorted(loaded) if number not in kept]
    return leaving[:-1] if leaving and len(leaving) == len(loaded) else leaving
