"""Draws an elastic run as an SVG: ranks, throughput and loss against time, above the undisturbed run's loss.

    python benchmarks/elastic/picture.py FOLDER [--out docs/elastic.svg]

FOLDER is what ``benchmarks/elastic/kills.py --out FOLDER`` has left. The vertical lines are kills. The lowest panel has
the losses of both runs against steps: dots are the elastic run's, the line is the undisturbed run's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import vl_convert

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.folder import RunFolder
from saman.runs.telemetry.window import Window, read_windows

WIDTH, HEIGHT = 640, 90
THEME = {
    "background": "#ffffff",
    "font": "DejaVu Sans",
    "view": {"stroke": None},
    "axis": {"titleFontWeight": "normal"},
}


def main() -> None:
    """Read both runs and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/elastic.svg"))
    asked = parser.parse_args()
    elastic, single = (_newest(asked.folder, name) for name in ("kills", "undisturbed"))
    kills = [kill["time"] for kill in json.loads((asked.folder / "kills.json").read_text())]
    asked.out.write_text(vl_convert.vegalite_to_svg(spec(elastic, single, kills), config=THEME))
    print(asked.out)


def _newest(folder: Path, name: str) -> RunFolder:
    return RunFolder.open(sorted((folder / "runs" / name).glob("2*"))[-1])


def chief_windows(run: RunFolder) -> list[Window]:
    """Return the windows that a chief wrote, in the order of steps, whichever process was the chief."""
    windows, _, _ = read_windows(run, 0)
    return [window for window in windows if window.loss is not None]


def spec(elastic: RunFolder, single: RunFolder, kills: list[float]) -> dict[str, Any]:
    """Return the Vega-Lite specification of the picture."""
    worlds = [world for event in elastic.events() if (world := WorldFormed.from_event(event)) is not None]
    windows = chief_windows(elastic)
    began, ended = worlds[0].detected + worlds[0].seconds["stepped"], max(window.time for window in windows)
    moments = [max(0.0, world.detected + world.seconds.get("formed", 0.0) - began) for world in worlds]
    sizes = [{"t": moment, "ranks": world.size} for moment, world in zip(moments, worlds, strict=True)]
    sizes.append({"t": ended - began, "ranks": worlds[-1].size})
    later = [w for w in windows if w.time > began]
    speeds = [{"t": w.time - began, "rate": w.samples * w.size / w.seconds, "loss": w.loss} for w in later]
    losses = [{"step": w.step, "loss": w.loss} for w in windows]
    plain = [{"step": w.step, "loss": w.loss} for w in chief_windows(single)]
    marks = [{"t": moment - began} for moment in kills]

    def over_time(
        values: list[dict[str, Any]], field: str, title: str, last: bool = False, **mark: Any
    ) -> dict[str, Any]:
        scale = {"domain": [0, ended - began], "nice": False}
        time = {"field": "t", "type": "quantitative", "title": "seconds" if last else None, "scale": scale}
        kill = {
            "data": {"values": marks},
            "mark": {"type": "rule", "color": "#c0392b", "strokeDash": [3, 2]},
            "encoding": {"x": time},
        }
        shown = {"x": time, "y": {"field": field, "type": "quantitative", "title": title, "axis": {"tickCount": 4}}}
        line = {"data": {"values": values}, "mark": {"type": "line", "color": "#1f5f99", **mark}, "encoding": shown}
        return {"width": WIDTH, "height": HEIGHT, "layer": [kill, line]}

    def over_steps(values: list[dict[str, Any]], **mark: Any) -> dict[str, Any]:
        x, y = ({"field": field, "type": "quantitative", "title": field} for field in ("step", "loss"))
        return {"data": {"values": values}, "mark": mark, "encoding": {"x": x, "y": y}}

    below = [
        over_steps(plain, type="line", color="#888888", strokeWidth=3),
        over_steps(losses, type="point", color="#1f5f99", size=8, filled=True),
    ]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "vconcat": [
            over_time(sizes, "ranks", "ranks", interpolate="step-after"),
            over_time(speeds, "rate", "samples/s", strokeWidth=1),
            over_time(speeds, "loss", "loss", last=True),
            {"width": WIDTH, "height": HEIGHT, "layer": below},
        ],
    }


if __name__ == "__main__":
    main()
