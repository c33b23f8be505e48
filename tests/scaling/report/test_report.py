"""The report: what it says, draws, writes, refuses to draw, and what its exit code tells."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import vl_convert
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.comparison import compare_reports, comparison_page
from saman.scaling.report.figures.drawing import draw, theme
from saman.scaling.report.figures.figures import make_figures
from saman.scaling.report.opening import opening
from saman.scaling.report.pages import study_page
from saman.scaling.report.writer import html, write_report
from saman.scaling.study.energy import Reading, joules_between, read_meters

BASE = Made(step_seconds=0.8, windows=25, noise=0.01, between=0.01)


def _analysis(folder: Path, runs: list[Made]) -> Analysis:
    return analyse(read_runs(write_runs(folder, runs)))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two strategies, Amdahl fractions 2 % and 6 %, eight repeats at 1 to 16 ranks, rank 5 slow on 16."""
    runs = curve(BASE, (1, 2, 4, 8, 16), 0.02, 8) + curve(
        replace(BASE, strategy="multi_worker"), (1, 2, 4, 8, 16), 0.06, 8
    )
    runs = [replace(r, slow_rank=5) if r.ranks == 16 and r.strategy == "horovod" else r for r in runs]
    folder = tmp_path_factory.mktemp("runs") / "made"
    write_runs(folder, runs)
    return folder


@pytest.fixture(scope="module")
def analysis(study: Path) -> Analysis:
    return analyse(read_runs(sorted(study.iterdir())))


def _command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "saman", *words], cwd=cwd, capture_output=True, text=True)


def test_a_figure_for_papers_is_the_drawing_of_the_page_below_its_title(analysis: Analysis, tmp_path: Path) -> None:
    figure = make_figures(analysis)[0]
    draw([figure], tmp_path)
    svg = (tmp_path / f"{figure.name}.svg").read_text()
    spec = {"title": {"text": figure.title, "anchor": "start"}, **figure.spec}
    fonts = "'Liberation Sans', Arial, Helvetica, sans-serif"
    whole = vl_convert.vegalite_to_svg(spec, config=theme("#1c1e21", "#e3e5e8", fonts))
    marks = re.compile(r"<path aria-label=[^>]*>|<text text-anchor[^>]*>[^<]*")
    drawn, wanted = ([mark for mark in marks.findall(text) if figure.title not in mark] for text in (svg, whole))
    assert len(drawn) > 20
    assert drawn == wanted
    assert f">{figure.title}</text>" in svg
    assert "currentColor" not in svg
    assert "system-ui" not in svg
    assert (tmp_path / f"{figure.name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / f"{figure.name}.pdf").read_bytes()[:4] == b"%PDF"


def test_known_truths_lie_in_their_intervals(analysis: Analysis) -> None:
    horovod = next(curve for curve in analysis.drawable if curve.label == "horovod")
    for point in horovod.points[1:]:
        truth = point.ranks / (1 + 0.02 * (point.ranks - 1))
        assert point.speedup is not None
        assert point.speedup.interval is not None
        assert point.speedup.interval.low * 0.98 <= truth <= point.speedup.interval.high * 1.02
        assert point.serial_fraction == pytest.approx(0.02, abs=0.015)
    assert not analysis.findings or all(
        finding.note or finding.kind is FindingKind.NOT_STEADY for finding in analysis.findings
    )


def test_the_opening_names_the_fastest_and_backs_it_by_tests(analysis: Analysis) -> None:
    fastest, gain, stops, limits = opening(analysis)
    assert fastest.startswith("horovod is the fastest on 16 ranks")
    assert "rank test: a real difference (corrected p = " in fastest
    assert gain.startswith("horovod reaches")
    assert all("95% interval" in sentence for sentence in (fastest, gain, stops))
    assert "rank 5 on n1" in limits


def test_strategies_that_differ_are_told_apart(analysis: Analysis) -> None:
    at_16 = next(contrast for contrast in analysis.contrasts if contrast.ranks == 16)
    at_1 = next(contrast for contrast in analysis.contrasts if contrast.ranks == 1)
    assert at_16.verdict.different
    assert at_16.ratio.value == pytest.approx((1 + 0.06 * 15) / (1 + 0.02 * 15), rel=0.05)
    assert not at_1.verdict.different


def test_predictions_hold_the_truth_that_was_not_measured(analysis: Analysis) -> None:
    horovod = next(curve for curve in analysis.drawable if curve.label == "horovod")
    for ahead in horovod.predictions:
        truth = 256 / (0.8 * (1 + 0.02 * (ahead.ranks - 1)) / ahead.ranks)
        assert ahead.low is not None
        assert ahead.high is not None
        assert ahead.low <= truth <= ahead.high


def test_everything_is_written_and_the_page_needs_nothing_else(analysis: Analysis, tmp_path: Path) -> None:
    page = write_report(study_page(analysis, "made", "saman report made"), tmp_path / "out")
    markup = re.sub(r"<script>.*?</script>", "", page.read_text(), flags=re.DOTALL)
    assert not re.search(r'(src|href)="(?!data:|#)|url\((?!#)|@import', markup)
    names = {figure.name for figure in make_figures(analysis)}
    assert names >= {
        "throughput",
        "speedup",
        "efficiency",
        "strategies",
        "step",
        "ranks",
        "loss",
        "accuracy",
        "predictions",
    }
    for name in names:
        assert (tmp_path / "out/figures" / f"{name}.svg").read_text().startswith("<svg")
        assert (tmp_path / "out/figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "out/figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    points = pl.read_parquet(tmp_path / "out/tables/points.parquet")
    assert len(points) == 10
    assert pl.read_csv(tmp_path / "out/tables/runs.csv").height == 80


def test_the_page_links_the_timelines_of_its_runs(analysis: Analysis, tmp_path: Path) -> None:
    run = analysis.runs[0]
    attempt = tmp_path / "runs" / "a study" / run.facts.id / "attempts" / "1"
    attempt.mkdir(parents=True)
    (attempt / "timeline.json").write_text("[]")
    moved = replace(run, facts=replace(run.facts, path=attempt.parents[1]))
    page = study_page(analyse([moved, *analysis.runs[1:]]), "t", "c")
    text = html(page, tmp_path / "reports" / "x")
    assert f'href="../../runs/a%20study/{run.facts.id}/attempts/1/timeline.json"' in text
    shown = write_report(page, tmp_path / "reports" / "x", papers=False)
    assert f'href="timelines/{run.facts.id}-1.html"' in shown.read_text()
    assert (shown.parent / "timelines" / f"{run.facts.id}-1.html").is_file()
    assert "Timelines" not in html(study_page(analysis, "t", "c"))


def test_text_from_runs_cannot_become_part_of_the_page(analysis: Analysis) -> None:
    evil = "</script><script>alert(1)</script>"
    runs = [replace(run, facts=replace(run.facts, strategy=evil, software=evil)) for run in analysis.runs]
    text = html(study_page(analyse(runs), evil, evil))
    assert "<script>alert(1)" not in text


def _kinds(found: Analysis) -> set[str]:
    return {finding.kind for finding in found.findings}


def test_mixed_hardware_is_said_and_not_drawn(tmp_path: Path) -> None:
    runs = curve(BASE, (1, 2, 4), 0.02, 2)
    runs[-1] = replace(runs[-1], cpu="Another CPU")
    found = _analysis(tmp_path / "r", runs)
    assert "mixed_hardware" in _kinds(found)
    assert found.drawable == ()
    assert make_figures(found) == []


def test_unequal_global_batches_under_strong_scaling_are_not_drawn(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", [replace(BASE, ranks=n, global_batch=256 * n) for n in (1, 2, 4)])
    assert "unequal_batch" in _kinds(found)
    assert found.drawable == ()


def test_a_batch_that_is_an_axis_makes_two_curves(tmp_path: Path) -> None:
    runs = [replace(BASE, ranks=n, global_batch=batch) for batch in (128, 256) for n in (1, 2)]
    found = _analysis(tmp_path / "r", runs)
    assert [curve.label for curve in found.drawable] == ["horovod global batch 128", "horovod global batch 256"]


def test_weak_scaling_keeps_one_curve(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", [replace(BASE, ranks=n, batch_per_rank=64) for n in (1, 2, 4)])
    assert [curve.group.scaling for curve in found.drawable] == ["weak"]


def test_unequal_cores_per_rank_are_not_drawn(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", [replace(BASE, ranks=n, cores_per_rank=8 // n) for n in (1, 2)])
    assert "unequal_cores" in _kinds(found)
    assert found.drawable == ()


def test_without_a_baseline_no_speedup_is_shown(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", curve(BASE, (2, 4), 0.02, 2))
    assert "missing_base" in _kinds(found)
    assert {figure.name for figure in make_figures(found)}.isdisjoint({"speedup", "efficiency"})
    assert all(point.speedup is None for curve in found.drawable for point in curve.points)


def test_single_is_the_baseline_of_a_strategy_without_its_own(tmp_path: Path) -> None:
    runs = [*[replace(BASE, strategy="single")] * 6, *curve(BASE, (2, 4), 0.02, 6)]
    found = _analysis(tmp_path / "r", runs)
    horovod = next(curve for curve in found.curves if curve.label == "horovod")
    assert horovod.baseline is not None
    assert horovod.baseline.label == "single on 1 rank"
    assert horovod.points[0].speedup is not None


def test_a_single_repeat_is_said_and_has_no_interval(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", curve(BASE, (1, 2), 0.02, 1))
    assert "single_repeat" in _kinds(found)
    assert all(point.throughput.interval is None for curve in found.drawable for point in curve.points)


def test_outliers_are_flagged_and_kept(tmp_path: Path) -> None:
    runs = curve(replace(BASE, between=0.001), (1, 2), 0.02, 6)
    runs[3] = replace(runs[3], step_seconds=runs[3].step_seconds * 1.5)
    found = _analysis(tmp_path / "r", runs)
    assert any(finding.kind == "outliers" and finding.note for finding in found.findings)
    assert len(found.drawable[0].points[0].runs) == 6


def test_two_studies_are_compared_and_only_real_differences_are_called_so(tmp_path: Path) -> None:
    before = _analysis(tmp_path / "a", curve(BASE, (1, 2), 0.02, 6))
    slower = [
        replace(r, step_seconds=r.step_seconds * (1.2 if r.ranks == 2 else 1), seed=9)
        for r in curve(BASE, (1, 2), 0.02, 6)
    ]
    after = _analysis(tmp_path / "b", slower)
    contrasts, _ = compare_reports(before, after)
    told = {contrast.ranks: contrast for contrast in contrasts}
    assert told[2].verdict.different
    assert not told[1].verdict.different
    assert told[2].ratio.interval is not None
    assert told[2].ratio.interval.low < 1 / 1.2 < told[2].ratio.interval.high * 1.02
    page = comparison_page(before, after, ("a", "b"), "saman report --compare a b")
    assert page.opening[0].startswith("1 of 2 differences are real")
    assert [figure.name for figure in page.figures] == ["ratios"]


def test_the_command_prints_writes_and_tells_by_its_exit_code(study: Path, tmp_path: Path) -> None:
    runs_dir = tmp_path / "runs"
    good = curve(replace(BASE, between=0.02), (1, 2), 0.02, 6)
    write_runs(runs_dir / "good", good)
    done = _command("report", "good", "-o", "out", "--no-papers", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert done.returncode == (0 if all(f["kind"] == "outliers" for f in told["findings"]) else 1), done.stderr
    assert (tmp_path / "out/report.html").is_file()
    torn = sorted((runs_dir / "good").iterdir())[0] / "attempts/1/telemetry/00000.jsonl"
    with torn.open("a") as file:
        file.write('{"torn')
    again = _command("report", "good", "-o", "out", "--no-papers", cwd=tmp_path)
    assert again.returncode == 1
    assert "torn" in again.stdout
    assert _command("report", "nothing-of-this-name", cwd=tmp_path).returncode == 2


def test_predict_says_when_it_is_asked_beyond_the_data(study: Path, tmp_path: Path) -> None:
    words = ("predict", str(study), "--ranks", "32,1024", "--simulate", "--node-mtbf-hours", "5000", "--json")
    done = _command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    cautions = {row["ranks"]: row["caution"] for row in told["predictions"]}
    assert cautions[32] is None
    assert "beyond the data" in cautions[1024]
    checked = [abs(p["error"]) for curve in told["simulated"] for p in curve["points"] if p["error"] is not None]
    assert checked and max(checked) < 0.12  # each count from smaller counts alone
    assert all(0 < p["survived"]["useful"] <= 1 for curve in told["simulated"] for p in curve["points"])
    assert _command("predict", str(study), "--ranks", "many", cwd=tmp_path).returncode == 2


def test_energy_is_what_the_meters_counted_also_over_a_wrap(tmp_path: Path) -> None:
    folder = tmp_path / "intel-rapl:0"
    folder.mkdir()
    (folder / "max_energy_range_uj").write_text("1000000\n")
    (folder / "energy_uj").write_text("900000\n")
    before = read_meters(tmp_path)
    (folder / "energy_uj").write_text("100000\n")
    assert joules_between(before, read_meters(tmp_path)) == pytest.approx(0.2)
    assert joules_between(Reading({}, {}), Reading({}, {})) is None


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_draws_every_figure_without_errors_or_requests(analysis: Analysis, tmp_path: Path) -> None:
    page = write_report(study_page(analysis, "made", "saman report made"), tmp_path / "out", papers=False)
    log = tmp_path / "net.json"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += [
        "--disable-background-networking",
        "--disable-component-update",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    flags += ["--enable-logging=stderr", "--v=0", f"--log-net-log={log}", "--virtual-time-budget=15000", "--dump-dom"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *flags, page.as_uri()], capture_output=True, text=True, timeout=120, env=environment
    )
    assert 'data-ready="yes"' in done.stdout
    assert done.stdout.count("<svg") >= len(make_figures(analysis))
    assert "CONSOLE" not in done.stderr, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = set(re.findall(r'"url":"((?:https?|wss?)://[^"]*)"', log.read_text())) if log.is_file() else set()
    assert not {url for url in asked if "google" not in url}, asked
