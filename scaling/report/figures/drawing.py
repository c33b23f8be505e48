"""Draws figures: stills for the page, files for papers, and Vega's JavaScript for readers with scripts.

Vega draws with a single thread, a tenth of a second a figure; all else is derived from its drawings.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from threading import Thread
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.runs.caches import cache_folder, require_trusted
from saman.runs.files.whole import write_whole
from saman.scaling.report.figures.narrow import narrow
from saman.scaling.report.figures.vega import Figure, Spec

INK, GRID = "currentColor", "#88888840"  # of the page, in print too
_PAPER_INK, _PAPER_GRID = "#1c1e21", "#e3e5e8"
# Vega measures text with Liberation Sans, which it brings along; a font of the system it would open anew for each
# letter, which takes twice as long as the drawing. Arial and Liberation Sans have the same widths.
_DRAWN_FONTS = "'Liberation Sans', Arial, Helvetica, sans-serif"
_PAGE_FONTS = "system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"  # of the page's script, which measures them
_TITLE_PIXELS = 17  # the height of a title
_LETTER_PIXELS = 11  # the width of its widest letters, nearly
_OPENING = re.compile(r'(<svg [^>]*?)width="([\d.]+)" height="([\d.]+)" viewBox="0 0 \2 \3">')


def start_drawing() -> None:
    """Start Vega's engine while files are waited for: 0.3 s before the first figure, with Python's lock held."""
    Thread(target=_draw_nothing, daemon=True).start()


def _draw_nothing() -> None:
    with contextlib.suppress(Exception):  # what is wrong is said when a figure is drawn
        _vl_convert().vegalite_to_svg({"mark": "point", "data": {"values": []}})


def draw(figures: Sequence[Figure], papers: Path | None = None) -> dict[str, dict[str, str]]:
    """Draw figures.

    Args:
        figures: The figures.
        papers: Folder for each figure as SVG, PNG and PDF; ``None`` for none.

    Returns:
        The drawings of each figure by name, ``wide`` and ``narrow``, as SVG that goes into a page.

    Raises:
        EnvironmentLack: The library is missing.
        OSError: A file cannot be written.
    """

    def drawings(figure: Figure) -> dict[str, str]:
        wide = svg_of(figure.spec)
        if papers is not None:
            _write_files(for_paper(wide, figure), papers / figure.name)
        return {"wide": _inline(wide), "narrow": _inline(svg_of(narrow(figure.spec)))}

    with ThreadPoolExecutor(2) as pool:
        return dict(zip((figure.name for figure in figures), pool.map(drawings, figures), strict=True))


def svg_of(spec: Spec) -> str:
    """Draw a specification in the colour of the page's text."""
    return str(_vl_convert().vegalite_to_svg(spec, config=theme(INK, GRID, _DRAWN_FONTS)))


def for_paper(wide: str, figure: Figure) -> str:
    """The drawing of a page with a paper's colours, on white, below the figure's title."""
    found = _OPENING.match(wide)
    if found is None or len(figure.title) * _LETTER_PIXELS > float(found[2]):  # a title that widens the figure
        spec = {"title": {"text": figure.title, "anchor": "start"}, **figure.spec}
        return str(_vl_convert().vegalite_to_svg(spec, config=theme(_PAPER_INK, _PAPER_GRID, _DRAWN_FONTS)))
    body = wide[found.end() :].removesuffix("</svg>")
    body = body.replace(f'"{INK}"', f'"{_PAPER_INK}"').replace(f'"{GRID}"', f'"{_PAPER_GRID}"')
    width, height = found[2], f"{float(found[3]) + _TITLE_PIXELS:g}"
    return (
        f'{found[1]}width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
        f'<text x="6" y="16" font-family="{_DRAWN_FONTS}" font-size="13px" font-weight="bold" fill="{_PAPER_INK}">'
        f'{escape(figure.title)}</text><g transform="translate(0,{_TITLE_PIXELS})">{body}</g></svg>'
    )


def _write_files(svg: str, path: Path) -> None:
    convert = _vl_convert()
    write_whole(path.with_suffix(".svg"), svg)
    write_whole(path.with_suffix(".png"), convert.svg_to_png(svg, scale=2))
    write_whole(path.with_suffix(".pdf"), convert.svg_to_pdf(svg))


def _inline(svg: str) -> str:
    """An SVG that lies in a page with others: its own identifiers, and a size that follows the column."""
    prefix = f"s{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}\1)", svg)
    # the figure has a name of its own; the marks inside need none
    svg = re.sub(r' (?:role|aria-[a-z]+)="[^"]*"', "", svg)
    return svg.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def specs_of(figures: Sequence[Figure]) -> Mapping[str, Mapping[str, Spec]]:
    """The specifications that a page's script draws, by figure, for wide and narrow pages."""
    return {figure.name: {"wide": figure.spec, "narrow": narrow(figure.spec)} for figure in figures}


def javascript() -> str:
    """Vega's JavaScript, as the content of a script element."""
    # "</script" would end the element; in a string of a script "<\/script" means the same
    return _kept_bundle().replace("</script", "<\\/script")


def _kept_bundle() -> str:
    """Vega's JavaScript, from the user's cache: bundling takes a second, and depends on the library's version alone."""
    convert = _vl_convert()
    folder = cache_folder() / "vega"
    file = folder / f"{convert.__version__}.js"
    with contextlib.suppress(OSError, UnicodeDecodeError, EnvironmentLack):
        require_trusted(folder, file)
        return file.read_text("utf-8")
    text = str(convert.javascript_bundle())
    with contextlib.suppress(OSError, EnvironmentLack):  # without a cache, the next report bundles again
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        require_trusted(folder)
        write_whole(file, text)
    return text


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError:
        raise EnvironmentLack(
            "figures need the package vl-convert-python", remedy="pip install vl-convert-python"
        ) from None
    return vl_convert


def theme(ink: str, grid: str, font: str = _PAGE_FONTS) -> Spec:
    """Colours and fonts of axes and legends; ``currentColor`` follows the page, in print too."""
    text = {"labelColor": ink, "titleColor": ink}
    return {
        "aria": False,  # the page names each figure as a whole; its tables have the numbers
        "background": None if ink == INK else "#ffffff",
        "font": font,
        "view": {"stroke": None},
        "axis": {**text, "gridColor": grid, "domainColor": ink, "tickColor": ink, "titleFontWeight": "normal"},
        "legend": text,
        "title": {"color": ink},
        "text": {"color": ink},
    }
