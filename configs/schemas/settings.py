"""The schema of a user's own settings: ``~/.config/saman/settings.yaml``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from saman.configs.problems import Strict


def _absolute(text: str) -> str:
    if not text.startswith(("/", "~/")):
        raise ValueError(f"{text!r} is not an absolute path")
    return text


def _cluster(text: str) -> str:
    if not text or ("/" in text and not text.startswith(("/", "~/"))):
        raise ValueError(f"{text!r} is neither the name of a cluster file nor an absolute path")
    return text


class Settings(Strict):
    """What a user decides for all projects.

    Attributes:
        cluster: The cluster of commands without ``--cluster``: a name or an absolute path.
        safe: Folders of other users whose runs may be continued and published: each folder and everything below it.
    """

    cluster: Annotated[str, AfterValidator(_cluster)] | None = None
    safe: list[Annotated[str, AfterValidator(_absolute)]] = []
