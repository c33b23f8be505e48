"""Writes the page of a timeline beside a report: a single file that needs no network."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

from saman.runs.files.whole import write_whole
from saman.scaling.report.timelines.trace import Trace, read_trace


def write_timeline_page(file: Path, folder: Path, title: str) -> Path:
    """Write the page of a timeline.

    Args:
        file: Horovod's timeline.
        folder: Where the page goes; created if missing.
        title: Names the run and its attempt.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{file.parents[2].name}-{file.parent.name}.html"
    address = quote(os.path.relpath(file.absolute(), folder.absolute()))
    write_whole(page, timeline_html(read_trace(file), title, address))
    return page


def timeline_html(trace: Trace, title: str, address: str) -> str:
    """The page; ``address`` is that of the timeline, for tools that read the format."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    names = sorted({span.name for span in trace.spans})
    values = {
        "rows": trace.rows,
        "names": names,
        "spans": [[span.row, names.index(span.name), span.start, span.duration, span.depth] for span in trace.spans],
    }
    text = json.dumps(values, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    template = Path(__file__).with_name("timeline.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        title=title, address=address, count=len(trace.spans), whole=trace.whole, values=Markup(text)
    )
