"""Pieces of HTML for notebooks. Every value is escaped here, so that no name becomes markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_COLOURS = {"completed": "#1a7f37", "done": "#1a7f37", "failed": "#c62828", "vanished": "#c62828"}


def html_title(text: str, state: str = "") -> str:
    """A heading, with a state beside it in the state's colour."""
    colour = _COLOURS.get(state, "#57606a")
    badge = f' <span style="color:{colour};font-weight:normal">{escape(state)}</span>' if state else ""
    return f"<div><strong>{escape(text)}</strong>{badge}</div>"


def html_paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def html_list(texts: Iterable[str]) -> str:
    """A list; empty where there are no texts."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def html_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; ``None`` is an empty cell."""
    head = "".join(f"<th>{escape(text)}</th>" for text in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_pairs(rows: Iterable[tuple[str, object]]) -> str:
    """A table of names and values without headings; a name without a value is left out."""
    known = [(name, value) for name, value in rows if value not in (None, "")]
    body = "".join(f'<tr><th style="text-align:left">{escape(name)}</th>{_cell(value)}</tr>' for name, value in known)
    return f"<table><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return f'<td style="text-align:left">{"" if value is None else escape(str(value))}</td>'
