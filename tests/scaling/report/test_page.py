"""The page as people meet it: on paper, on a narrow screen, without scripts, read aloud."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from synthetic import Made, curve, write_runs
from timesliced import Machine, Program, write_cells

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.analysis.sources import find_source, read_source
from saman.scaling.report.figures.curve_figures import point_data, predictions, throughput
from saman.scaling.report.figures.vega import SeriesStyle
from saman.scaling.report.page_tables import suspicion_in_words
from saman.scaling.report.pages import study_page
from saman.scaling.report.setup_table import setup_rows
from saman.scaling.report.tables import law_rows, point_rows
from saman.scaling.report.writer import html

BASE = Made(global_batch=256, step_seconds=0.1)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """Two strategies and a grid of pipelines; long names, many columns."""
    folder = tmp_path_factory.mktemp("page")
    runs = [
        *curve(BASE, (1, 2, 4, 8, 16), 0.02, 6),
        *curve(replace(BASE, strategy="multi_worker"), (1, 2, 4, 8), 0.05, 6),
    ]
    paths = write_runs(folder / "a", runs)
    cells = [replace(Program(), stages=s, replicas=r) for s in (1, 2) for r in (1, 2)]
    return analyse(read_runs([*paths, *write_cells(folder / "b", cells, Machine(4))]))


@pytest.fixture(scope="module")
def markup(analysis: Analysis) -> str:
    """The page as text."""
    return html(study_page(analysis, "made", "saman report made"))


class _Elements(HTMLParser):
    """Names and attributes of all elements, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


# ---- what stands on the page ---------------------------------------------------------------------------------------


def test_every_table_has_a_caption_and_every_head_a_scope(markup: str) -> None:
    elements = _Elements(re.sub(r"<script>.*?</script>", "", markup, flags=re.DOTALL)).found
    tables = sum(tag == "table" for tag, _ in elements)
    assert tables >= 5
    assert sum(tag == "caption" for tag, _ in elements) == tables
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in elements if tag == "th")
    assert any(attributes.get("scope") == "row" for tag, attributes in elements if tag == "th")


def test_every_caption_says_how_many_runs_and_which_level(analysis: Analysis) -> None:
    captions = {figure.name: figure.caption for figure in study_page(analysis, "made", "x").figures}
    assert len(captions) >= 8
    assert all(re.search(r"n = \d+", caption) for caption in captions.values()), captions
    assert all(
        re.search(r"\d+ ?% (prediction )?interval|no intervals?|without intervals|quartiles", c)
        for c in captions.values()
    )


def test_repeats_in_a_caption_are_those_of_the_runs(tmp_path: Path) -> None:
    found = analyse(read_runs(write_runs(tmp_path, [*curve(BASE, (1, 2), 0.02, 7), replace(BASE, ranks=4)])))
    figure = throughput(found.curves, point_data(point_rows(found.curves)), SeriesStyle(("horovod",)))
    assert "n = 1 to 7 runs per point" in figure.caption
    assert "where repeats allow" in figure.caption


def test_logarithmic_axes_are_marked_and_linear_ones_are_not(tmp_path: Path) -> None:
    titles = {}
    for name, counts in (("wide", (1, 2, 4, 8)), ("close", (1, 2, 4))):
        found = analyse(read_runs(write_runs(tmp_path / name, curve(BASE, counts, 0.02, 2))))
        figure = throughput(found.curves, point_data(point_rows(found.curves)), SeriesStyle(("horovod",)))
        encoding = figure.spec["layer"][-1]["encoding"]
        titles[name] = (encoding["x"]["title"], encoding["y"]["title"])
    assert titles["wide"] == ("ranks (log scale)", "samples per second (log scale)")
    assert titles["close"] == ("ranks", "samples per second")


def test_the_whole_band_of_a_prediction_is_on_its_axis(tmp_path: Path) -> None:
    """A flat curve: its intervals reach below every measured point."""
    found = analyse(read_runs(write_runs(tmp_path, [replace(BASE, ranks=n) for n in (1, 2, 4, 1, 2, 4)])))
    figure = predictions(found.curves, point_data(point_rows(found.curves)), SeriesStyle(("horovod",)))
    assert figure is not None
    band = figure.spec["layer"][0]
    low, high = band["encoding"]["y"]["scale"]["domain"]
    edges = [(entry["low"], entry["high"]) for entry in band["data"]["values"]]
    assert min(edge for edge, _ in edges) < min(point.throughput.value for point in found.curves[0].points)
    assert all(low <= lower and upper <= high for lower, upper in edges)


def test_the_set_up_is_told_as_in_a_methods_section(analysis: Analysis) -> None:
    rows = {row.name: row.value for row in setup_rows(analysis.measured_runs)}
    assert rows["scaling"].startswith("strong")
    assert "256 over all ranks (54)" in rows["batch"]
    assert rows["precision"] == "float32"
    assert rows["seed"] == "1"
    assert "mlp" in rows["model"]
    assert "nodes over" in rows["network"]
    assert "clock" in rows["timing"]


def test_a_weak_study_says_that_it_is_weak(tmp_path: Path) -> None:
    found = analyse(read_runs(write_runs(tmp_path, [replace(BASE, ranks=n, batch_per_rank=64) for n in (1, 2)])))
    rows = {row.name: row.value for row in setup_rows(found.measured_runs)}
    assert rows["scaling"] == "weak: fixed batch per rank"
    assert rows["batch"] == "64 per rank"


@pytest.mark.parametrize(
    ("value", "low", "high", "flagged"),
    [
        (3.22e-14, None, None, True),  # a hop in no time
        (0.0, 0.0, 0.4, True),
        (2e-4, -1e-3, 8e-3, True),  # reaches 0 and anything
        (2e-4, 1e-4, 3e-4, False),
        (0.05, None, None, False),
    ],
)
def test_a_parameter_that_no_machine_has_is_flagged(
    analysis: Analysis, value: float, low: float | None, high: float | None, flagged: bool
) -> None:
    rows = [row for row in law_rows(analysis.drawable) if row.unit.startswith("steps")]
    row = next(row for row in rows if row.parameter != "hidden")
    assert "suspicious" not in suspicion_in_words(replace(row, parameter="hidden", value=0.0, low=None, high=None))
    told = suspicion_in_words(replace(row, value=value, low=low, high=high))
    assert ("suspicious" in told) == flagged


def test_the_page_has_the_command_that_runs_the_study_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_runs(tmp_path / "runs/made", [BASE, replace(BASE, ranks=2)])
    study = '{"schema": 1, "study": {"name": "made"}, "file": "/home/me/my study.yaml", "runs": [], "impossible": []}'
    (tmp_path / "runs/made/study.json").write_text(study)
    source = find_source(["made"], tmp_path / "runs")
    page = study_page(read_source(source), source.title, "saman report made", source.rerun)
    assert page.rerun[0] == "saman study '/home/me/my study.yaml' --runs-dir made-again"
    alone = study_page(analyse(read_runs(paths)), "runs", "saman report runs")
    assert all(command.startswith("saman run ") for command in alone.rerun)
    assert len(alone.rerun) == 2
    assert "saman run " in html(alone)


def test_two_drawings_on_a_page_do_not_share_identifiers(markup: str) -> None:
    elements = _Elements(re.sub(r"<script>.*?</script>", "", markup, flags=re.DOTALL)).found
    names = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(names) == len(set(names))


# ---- as a browser shows it -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A headless Chromium."""
    with Browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture(scope="module")
def file(markup: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(markup, encoding="utf-8")
    return path


needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
# Elements that are wider than the page, or whose content is wider than they are and hidden or scrolled.
OVERFLOWING = """[...document.querySelectorAll('main *')].filter(e => {
  if (e.closest('thead') || e.closest('svg')) return false;
  const box = e.getBoundingClientRect();
  if (box.width === 0) return false;
  return box.right > document.documentElement.clientWidth + 1
    || (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== 'inline');
}).map(e => e.tagName + '#' + e.id + '.' + e.className + ' ' + e.scrollWidth + '>' + e.clientWidth)"""
DRAWN = """[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')].filter(
  s => s.getBoundingClientRect().width > 100 && s.querySelectorAll('path').length > 3).length)"""


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_at_400_pixels_nothing_is_cut_and_nothing_scrolls_sideways(browser: Browser, file: Path, scripts: bool) -> None:
    browser.show(file, width=400, scripts=scripts)
    assert browser.run("document.documentElement.scrollWidth") <= 400
    assert browser.run(OVERFLOWING) == []
    # text in figures keeps its size: a drawing made for a wide page would be shrunk
    widths = "s => [s.getBoundingClientRect().width, s.viewBox.baseVal.width]"
    shown = browser.run(f"[...document.querySelectorAll('figure svg')].map({widths})")
    assert all(width >= 0.85 * own for width, own in shown if width)
    assert browser.run(
        "[...document.querySelectorAll('td')].some(c => getComputedStyle(c, '::before').content.includes('ranks'))"
    )


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_every_figure_is_drawn_once_with_and_without_scripts(browser: Browser, file: Path, scripts: bool) -> None:
    browser.show(file, scripts=scripts)
    drawn = browser.run(DRAWN)
    assert len(drawn) >= 8
    assert set(drawn) == {1}


@pytest.mark.browser
@needs_browser
def test_on_paper_every_column_is_printed_and_every_figure_drawn(browser: Browser, file: Path, tmp_path: Path) -> None:
    browser.show(file)
    width = 1039  # A4 landscape less its margins, in CSS pixels
    assert browser.on_paper(width, OVERFLOWING) == []
    assert set(browser.on_paper(width, DRAWN)) == {1}
    heads = "[...document.querySelectorAll('thead th')].every(h => h.getBoundingClientRect().right <= innerWidth + 1)"
    assert browser.on_paper(width, heads)
    browser.print_to(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.skipif(find_spec("axe_core_python") is None, reason="axe-core-python is not installed (make setup)")
def test_axe_finds_no_violation(browser: Browser, file: Path, width: int, dark: bool) -> None:
    import axe_core_python

    browser.show(file, width=width, dark=dark)
    browser.run((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    told = "v.id + ': ' + v.nodes.length + ' × ' + v.nodes[0].html.slice(0, 200)"
    assert browser.run(f"axe.run().then(r => r.violations.map(v => {told}))") == []


@pytest.mark.browser
@needs_browser
def test_every_figure_table_and_control_has_a_name_in_the_accessibility_tree(browser: Browser, file: Path) -> None:
    browser.show(file, width=400)  # where rows are cards and could lose their roles
    nodes = [node for node in browser.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        roles.setdefault(str(node["role"]["value"]), []).append(str(node.get("name", {}).get("value", "")))
    tables = browser.run("document.querySelectorAll('table').length")
    rows = browser.run("document.querySelectorAll('tbody tr, thead tr').length")
    assert len(roles["table"]) == tables
    assert all(roles["table"])
    assert len(roles["row"]) == rows
    assert all(roles["columnheader"])
    assert all(roles["image"] if "image" in roles else roles["img"])
    assert not {"button", "link", "DisclosureTriangle"} & {role for role, names in roles.items() if not all(names)}
    assert browser.problems == []
