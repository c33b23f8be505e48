"""A timeline of Horovod is read as it is written, also if its run was killed, and drawn on a page of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

from saman.scaling.report.timelines.page import write_timeline_page
from saman.scaling.report.timelines.trace import TraceSpan, read_trace

LINES = """[
{"name": "process_name", "ph": "M", "pid": 1, "args": {"name": "grad/</script>dense"}},
{"name": "process_sort_index", "ph": "M", "pid": 1, "args": {"sort_index": 1}},
{"ph": "B", "name": "NEGOTIATE_ALLREDUCE", "ts": 100, "pid": 1},{"ph": "X", "name": "0", "ts": 105, "pid": 1,\
 "dur": 0},{"ph": "E", "ts": 150, "pid": 1},
{"ph": "B", "name": "ALLREDUCE", "ts": 160, "pid": 1},
{"ph": "B", "name": "MPI_ALLREDUCE", "ts": 170, "pid": 1},
{"ph": "E", "ts": 190, "pid": 1},
{"ph": "E", "ts": 200, "pid": 1, "args": {"dtype": "float32"}},
{"ph": "E", "ts": 210, "pid": 1},
{"ph": "B", "name": "NEGOTIATE_ALLRE"""


def timeline(folder: Path) -> Path:
    file = folder / "runs" / "e" / "20261122-run" / "attempts" / "1" / "timeline.json"
    file.parent.mkdir(parents=True)
    file.write_text(LINES)
    return file


def test_spans_are_nested_and_a_torn_end_is_left_out(tmp_path: Path) -> None:
    trace = read_trace(timeline(tmp_path))
    assert trace.whole and trace.rows[1] == "grad/</script>dense"
    assert trace.spans == (
        TraceSpan(1, "NEGOTIATE_ALLREDUCE", 100, 50, 0),
        TraceSpan(1, "MPI_ALLREDUCE", 170, 20, 1),
        TraceSpan(1, "ALLREDUCE", 160, 40, 0),
    )


def test_only_the_first_spans_of_a_long_timeline_are_shown(tmp_path: Path) -> None:
    trace = read_trace(timeline(tmp_path), most=2)
    assert len(trace.spans) == 2 and not trace.whole


def test_the_page_needs_no_network_and_names_cannot_leave_their_place(tmp_path: Path) -> None:
    file = timeline(tmp_path)
    page = write_timeline_page(file, tmp_path / "reports" / "timelines", "<run>, attempt 1")
    text = page.read_text()
    assert page.name == "20261122-run-1.html" and text.count("</script>") == 1 and "&lt;run&gt;" in text
    assert "http://" not in text and "https://" not in text
    assert 'href="../../runs/e/20261122-run/attempts/1/timeline.json"' in text
    found = re.search(r"const data = (.*);\n", text)
    assert found is not None
    data = json.loads(found[1])
    assert [data["names"][span[1]] for span in data["spans"]] == ["NEGOTIATE_ALLREDUCE", "MPI_ALLREDUCE", "ALLREDUCE"]
