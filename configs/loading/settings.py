"""Finds and loads what the user has set for all projects, in ``$XDG_CONFIG_HOME/saman``."""

from __future__ import annotations

import os
from pathlib import Path

from saman.configs import yaml12
from saman.configs.home_folder import in_home
from saman.configs.problems import validated
from saman.configs.schemas.settings import Settings


def user_folder() -> Path:
    """The folder of the user's settings: ``~/.config/saman``, or ``saman`` in ``$XDG_CONFIG_HOME``."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return in_home(home) / "saman"


def settings_file() -> Path:
    """The file from which the user's settings are loaded; it need not exist."""
    return user_folder() / "settings.yaml"


def load_settings() -> Settings:
    """Load the user's settings; the defaults without a file. Raises ``UserError`` with every mistake in the file."""
    file = settings_file()
    return validated(Settings, yaml12.read(file) or {}, str(file)) if file.exists() else Settings()
