"""What may reach a terminal: the one place that takes control sequences out of texts of runs, files and users.

A log, a message or a name may hold sequences that a terminal obeys: set its title, write the clipboard (OSC 52), reset
it, answer as if typed. Their first character is shown as a symbol instead, so that the rest is plain, visible text.
"""

from __future__ import annotations

import re

_COLOUR = r"\x1b\[[0-9;:]{0,64}m"
# C0 but tab, line feed, backspace and carriage return (progress bars); DEL; C1; marks that reorder what is read.
_CONTROL = r"[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
_FOUND = re.compile(f"({_COLOUR})|{_CONTROL}")


def clean_text(text: str) -> str:
    r"""Return a text that others wrote, fit for a terminal: colours stay, every other control sequence is shown.

    >>> clean_text("\x1b]52;c;aGk=\x07 \x1b[31mred\x1b[0m")
    '␛]52;c;aGk=␇ \x1b[31mred\x1b[0m'
    """
    return _FOUND.sub(_allowed_or_shown, text)


def _allowed_or_shown(found: re.Match[str]) -> str:
    if found[1] is not None:
        return found[1]
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
