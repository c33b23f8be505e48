"""Published model versions in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, overload

from saman.api import html

if TYPE_CHECKING:
    from saman.registry.listing import VersionRow


class ModelVersions(Sequence["VersionRow"]):
    """Versions of models, as in ``saman models list``. A notebook shows them as a table."""

    def __init__(self, rows: Sequence[VersionRow], models_dir: Path) -> None:
        self._rows = tuple(rows)
        self._models_dir = models_dir

    @overload
    def __getitem__(self, index: int) -> VersionRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[VersionRow, ...]: ...
    def __getitem__(self, index: int | slice) -> VersionRow | tuple[VersionRow, ...]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[VersionRow]:
        return iter(self._rows)

    def __repr__(self) -> str:
        names = ", ".join(f"{row.model}:{row.version}" for row in self)
        return f"<saman.ModelVersions {names or 'none'} in {self._models_dir}>"

    def _repr_html_(self) -> str:
        if not self:
            return html.html_paragraph(f"{self._models_dir} has no model")
        return html.html_table(("model", "version", "labels", "metrics", "published", "by", "path"), map(_cells, self))


def _cells(row: VersionRow) -> tuple[object, ...]:
    from saman.configs.units import format_time

    metrics = row.problem or _figures(row.metrics or {})
    published = format_time(row.published_at)
    return row.model, row.version, ", ".join(row.labels), metrics, published, row.published_by, row.path


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


def models(name: str | None = None, *, models_dir: str | PathLike[str] = "models") -> ModelVersions:
    """List published model versions from Python.

    Args:
        name: Only the versions of this model; default: of all models.
        models_dir: The folder of the models.

    Returns:
        The versions by model and number; ``version.path`` is the folder of the SavedModel.

    Raises:
        UserError: The log of the model ``name`` is damaged. Without a name, a damaged model is a warning.

    Example:
        >>> import saman
        >>> [version.version for version in saman.models("digits")]
        [1]
    """
    import warnings

    from saman.configs.errors import UserError
    from saman.registry.listing import read_listing

    listing = read_listing(Path(models_dir))
    for damaged in listing.damaged:
        if damaged.model == name:
            raise UserError(damaged.problem, where=name, remedy="saman models verify lists all damage")
        if name is None:
            warnings.warn(f"{damaged.model} cannot be listed: {damaged.problem}", stacklevel=2)
    return ModelVersions([row for row in listing.rows if name in (None, row.model)], Path(models_dir))
