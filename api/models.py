"""Published model versions in Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from saman.api import html


class ModelVersions(Sequence[Mapping[str, Any]]):
    """Versions of models, each a mapping as in ``saman models list --json``. A notebook shows them as a table."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], models_dir: Path) -> None:
        self._rows = tuple(rows)
        self._models_dir = models_dir

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._rows)

    def __repr__(self) -> str:
        names = ", ".join(f"{row['model']}:{row['version']}" for row in self)
        return f"<saman.ModelVersions {names or 'none'} in {self._models_dir}>"

    def _repr_html_(self) -> str:
        from saman.configs.names import when

        if not self:
            return html.paragraph(f"no model is in {self._models_dir}")
        headings = ("model", "version", "labels", "metrics", "published", "by", "path")
        return html.table(
            headings,
            (
                (row["model"], row["version"], ", ".join(row["labels"]), row.get("problem") or _figures(row["metrics"]),
                 when(row["published_at"]), row["published_by"], row["path"])
                for row in self
            ),
        )  # fmt: skip


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


def models(name: str | None = None, *, models_dir: str | PathLike[str] = "models") -> ModelVersions:
    """List published model versions.

    Args:
        name: Only the versions of this model; default: of all models.
        models_dir: The folder of the models.

    Returns:
        The versions, oldest first; ``version["path"]`` is the folder of the SavedModel.

    Raises:
        UserError: The models folder is damaged.

    Example:
        >>> import saman
        >>> [version["version"] for version in saman.models("digits")]
        [1]
    """
    from saman.registry.listing import listing

    rows = listing(Path(models_dir))
    return ModelVersions([row for row in rows if name in (None, row["model"])], Path(models_dir))
