"""A systemd unit for ``saman serve``."""

from __future__ import annotations

from saman.serving.deploy.service import ServiceCommand, refuse_line_breaks


def render_systemd(service: ServiceCommand) -> str:
    """Render the unit; ``systemctl --user`` and the system's manager take it.

    SIGTERM drains the server, and systemd starts it again if it fails.
    """
    command = [service.program, *service.words]
    refuse_line_breaks([*command, str(service.directory)], "systemd")
    return f"""# ~/.config/systemd/user/saman-{service.name}.service
# systemctl --user enable --now saman-{service.name}
[Unit]
Description=saman serve ({service.name})
After=network-online.target

[Service]
ExecStart={" ".join(_word(word) for word in command)}
WorkingDirectory={str(service.directory).replace("%", "%%")}
Restart=on-failure
RestartSec=1
KillMode=mixed
TimeoutStopSec=60
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""


def _word(text: str) -> str:
    """A word of ``ExecStart`` (systemd.service(5), "Command lines"): quoted; ``%`` and ``$`` doubled."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
