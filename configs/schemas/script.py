"""The schema of a run that starts the user's own program instead of saman's trainer."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from saman.configs.names import Name
from saman.configs.private_values import set_aside
from saman.configs.problems import Strict
from saman.configs.schemas.experiment import Launch, Resources
from saman.configs.schemas.monitoring import Notify


class Script(Strict):
    """A program started once per rank, such as an unmodified Horovod script: ``saman run -np 4 -- COMMAND``."""

    name: Name
    command: list[str] = Field(min_length=1)
    directory: str
    legacy_keras: bool = False
    resources: Resources = Resources()
    launch: Launch = Field(default_factory=lambda: Launch.model_validate({}))
    notify: Notify | None = None

    @field_validator("launch")
    @classmethod
    def _keeps_its_ranks(cls, launch: Launch) -> Launch:
        if launch.elastic is not None:
            raise ValueError("elastic is for experiments: a program of your own cannot form a new world")
        return launch

    @model_validator(mode="after")
    def _roles_fit(self) -> Script:
        roles, ranks = self.launch.tf_config, self.resources.ranks
        if roles is not None and ranks < roles.fewest:
            raise ValueError(f"launch.tf_config: these roles need {roles.fewest} ranks, the request is for {ranks}")
        return self

    @property
    def devices_per_process(self) -> int:
        """Always 1: every rank of a script has its own process."""
        return 1

    def resolved(self) -> dict[str, Any]:
        """Plain values including defaults."""
        return self.model_dump(mode="json", by_alias=True)

    def written(self) -> dict[str, Any]:
        """Plain values as others may read them: references replace private values."""
        return set_aside(self.resolved())[0]
