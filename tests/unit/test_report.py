"""The HTML report: complete in itself, safe with any name, true to the readings, plain about what it omits."""

from __future__ import annotations

import base64
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_detector.errors import ConfigError, OutputError
from stream_detector.evaluation.report import SensorTrace, write_report
from stream_detector.evaluation.report.figure import draw
from stream_detector.evaluation.report.incidents import choose_channels, incidents_of, worst_first
from stream_detector.evaluation.report.page import embedded
from stream_detector.evaluation.report.thinning import POINTS, break_silences, scored_rows, thin
from stream_detector.records import (
    Alert,
    Channel,
    Event,
    Interval,
    ModelInfo,
    Severity,
    Threshold,
    format_time,
    parse_time,
)

START_MS = parse_time("2024-03-01T00:00:00Z")
MINUTE_MS = 60_000
EVIL = "<script>alert(1)</script>"


def minute(number: int) -> int:
    """The time of a trace's row in ms."""
    return START_MS + number * MINUTE_MS


def make_trace(sensor_id: str, length: int = 200, channels: int = 2) -> SensorTrace:
    """A calm sensor with a reading a minute."""
    rng = np.random.default_rng(len(sensor_id))
    score = np.abs(rng.normal(size=length)) + 0.1
    score[:20] = np.nan
    time_ms = START_MS + np.arange(length, dtype=np.int64) * MINUTE_MS
    return SensorTrace(sensor_id, time_ms, rng.normal(size=(length, channels)), score, np.full(length, 4.0), minute(50))


def make_alert(
    sensor_id: str,
    event: Event = "closed",
    *,
    name: str = "a",
    seq: int = 0,
    severity: Severity = "warning",
    peak_score: float = 5.0,
    contributions: dict[str, float] | None = None,
    summary: str = "vibration is too high",
) -> Alert:
    """One step of the incident `name` of a sensor, from minute 100 to minute 110."""
    return Alert(
        alert_id=f"{sensor_id}/{name}",
        kind="anomaly",
        seq=seq,
        event=event,
        status="resolved" if event == "closed" else "firing",
        close_reason="recovered" if event == "closed" else None,
        severity=severity,
        sensor_id=sensor_id,
        labels={"site": "north"},
        summary=summary,
        starts_at=format_time(minute(100)),
        ends_at=format_time(minute(110)) if event == "closed" else None,
        window=Interval(format_time(minute(90)), format_time(minute(110))),
        detected_at=None,
        score=peak_score,
        peak_score=peak_score,
        p_value=0.001,
        threshold=Threshold(4.0, "tail", "sensor", "1 per 7d"),
        channels=[Channel(key, 9.0, 2.0, 1.0, 3.0, part) for key, part in (contributions or {}).items()],
        model=ModelInfo("forecast", "1", "abc"),
    )


class Page(HTMLParser):
    """What a browser would see: the elements, what they load, the table's rows, text and embedded figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.head: str | None = None
        self.within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and whatever it points to."""
        self.tags.append(tag)
        self.within = tag
        values = dict(attrs)
        self.loads += [values[key] or "" for key in ("src", "href", "srcset", "data", "action") if key in values]
        if tag == "tr":
            self.rows.append({})
        if tag == "td":
            self.head = values["data-head"]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave a cell or a script."""
        self.within = ""
        if tag == "td":
            self.head = None

    def handle_data(self, data: str) -> None:
        """Keep text where it belongs."""
        if self.within == "script":
            self.scripts[-1] += data
        elif self.within != "style":
            self.text += data
            if self.head is not None:
                self.rows[-1][self.head] = self.rows[-1].get(self.head, "") + data

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The embedded figures, in the order of the page."""
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]

    @property
    def incidents(self) -> list[dict[str, str]]:
        """The rows of the table without its heading."""
        return [row for row in self.rows if row]


def report(path: Path, traces: list[SensorTrace], alerts: list[Alert], **options: Any) -> Page:
    """Write a report and read it back."""
    names = options.pop("channels", ["temp", "vib"])
    facts = options.pop("facts", {"Model": "forecast 1"})
    title = options.pop("title", "A run")
    write_report(path, title=title, channels=names, traces=traces, alerts=alerts, facts=facts, **options)
    return Page(path.read_text("utf-8"))


def unpack(column: dict[str, str]) -> np.ndarray:
    """A column of a figure as an array."""
    return np.frombuffer(base64.b64decode(column["bdata"]), dtype=column["dtype"])


def test_page_loads_nothing(tmp_path: Path) -> None:
    """Every link stays inside the page, the drawing library is in it once, and the page forbids any loading."""
    page = report(tmp_path / "run.html", [make_trace("pump")], [make_alert("pump")])
    text = (tmp_path / "run.html").read_text("utf-8")
    style = text[text.index("<style>") : text.index("</style>")]
    assert page.loads
    assert all(target.startswith("#") for target in page.loads)
    assert "link" not in page.tags
    assert not re.search(r"@import|url\(", style)
    assert "default-src 'none'" in text
    assert sum(len(script) > 500_000 for script in page.scripts) == 1


def test_names_are_never_markup(tmp_path: Path) -> None:
    """A sensor, channel, label, fact, title or summary that looks like a script adds no element anywhere."""
    calm = report(tmp_path / "calm.html", [make_trace("pump")], [make_alert("pump")], labels={"pump": [(0, 1)]})
    alert = make_alert(EVIL, contributions={EVIL: 0.9}, summary=EVIL)
    evil = report(
        tmp_path / "evil.html",
        [make_trace(EVIL)],
        [alert],
        channels=[EVIL, "vib"],
        facts={EVIL: EVIL},
        title=EVIL,
        labels={EVIL: [(0, 1)]},
    )
    assert evil.tags.count("script") == calm.tags.count("script")
    assert evil.text.count(EVIL) >= 6
    assert evil.figures[0]["data"][0]["name"] == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert "<script" not in json.dumps(evil.figures[0])


def test_embedded_data_cannot_end_its_element() -> None:
    """Text inside the page's data comes back as it was and holds nothing that a browser takes for a tag."""
    text = embedded({"name": f"</script>{EVIL}<!--"})
    assert "<" not in text
    assert json.loads(text) == {"name": f"</script>{EVIL}<!--"}


def test_figures_are_valid_plotly(tmp_path: Path) -> None:
    """Plotly itself accepts every property of a figure, and readings and score share one time axis."""
    graph_objects = pytest.importorskip("plotly.graph_objects")
    span = (minute(100), minute(110))
    page = report(tmp_path / "run.html", [make_trace("pump")], [make_alert("pump")], labels={"pump": [span]})
    figure = page.figures[0]
    graph_objects.Figure(data=figure["data"], layout=figure["layout"])
    assert [line["name"] for line in figure["data"]] == ["temp", "vib", "score", "threshold"]
    assert [line["yaxis"] for line in figure["data"]] == ["y", "y2", "y3", "y3"]
    assert not any("xaxis" in line for line in figure["data"])
    assert sum((shape["x0"], shape["x1"]) == span for shape in figure["layout"]["shapes"]) == 2
    assert any(shape["x1"] == minute(50) for shape in figure["layout"]["shapes"])


def test_drawn_values_are_the_readings(tmp_path: Path) -> None:
    """A short series is drawn as it came, times included."""
    trace = make_trace("pump")
    line = report(tmp_path / "run.html", [trace], []).figures[0]["data"][1]
    np.testing.assert_array_equal(unpack(line["x"]), trace.time_ms)
    np.testing.assert_allclose(unpack(line["y"]), trace.values[:, 1], atol=1e-4)


def test_small_steps_on_a_large_offset_survive() -> None:
    """Readings that differ only beyond single precision keep their differences."""
    trace = make_trace("meter", channels=1)
    values = 1e9 + np.arange(200.0).reshape(-1, 1) % 7
    picture = draw(SensorTrace("meter", trace.time_ms, values, trace.score, trace.threshold), ["count"], [], [])
    np.testing.assert_array_equal(unpack(picture.figure["data"][0]["y"]), values[:, 0])


def test_incident_table(tmp_path: Path) -> None:
    """One row an incident, worst first: what its first alert said, how its last one left it, in any order."""
    alerts = [
        make_alert("fan", "closed", seq=2, severity="info", peak_score=7.25),
        make_alert("fan", "opened", seq=0, severity="info", peak_score=5.0),
        make_alert("pump", "updated", seq=1, severity="critical", summary="it got worse"),
        make_alert("pump", "opened", seq=0, severity="warning", contributions={"vib": 0.8}, summary="it began"),
        make_alert("gone", "closed", severity="error"),
    ]
    page = report(tmp_path / "run.html", [make_trace("fan"), make_trace("pump")], alerts)
    pump, gone, fan = page.incidents
    assert (pump["Sensor"], pump["Severity"], pump["End"]) == ("pump", "critical", "still open")
    assert "it beganvib 9 (expected 2, usual 1 to 3): 80%" in pump["What happened"]
    assert gone["Sensor"] == "gone (not drawn)"
    assert (fan["Severity"], fan["Peak score"]) == ("info", "7.25")
    assert (fan["Start"], fan["End"]) == ("2024-03-01 01:40:00", "2024-03-01 01:50:00 (10 min)")
    assert "1 critical1 error0 warning1 info1 still open" in page.text
    assert {"#sensor-0", "#sensor-1"} <= set(page.loads)


def test_open_incident_is_shaded_to_the_end() -> None:
    """An incident without an end reaches to the last reading."""
    trace = make_trace("pump")
    picture = draw(trace, ["temp", "vib"], incidents_of([make_alert("pump", "opened")]), [])
    assert (minute(100), minute(199)) in {(shape["x0"], shape["x1"]) for shape in picture.figure["layout"]["shapes"]}


def test_summary_counts_what_ran(tmp_path: Path) -> None:
    """The facts are shown, and span, sensors and readings are counted over all traces, drawn or not."""
    page = report(tmp_path / "run.html", [make_trace("pump"), make_trace("fan")], [], max_sensors=1)
    assert "Modelforecast 1" in page.text
    assert "2024-03-01 00:00:00 to 2024-03-01 03:19:00 UTC (3 h 19 min)" in page.text
    assert "Sensors2Readings400" in page.text
    assert "No incident in this run." in page.text


def test_left_out_sensors_are_named(tmp_path: Path) -> None:
    """The worst sensors are drawn, and the page says how many others there are and which."""
    traces = [make_trace(f"calm-{number}") for number in range(5)] + [make_trace("mild"), make_trace("bad")]
    alerts = [make_alert("mild", severity="info"), make_alert("bad", severity="error")]
    page = report(tmp_path / "run.html", traces, alerts, max_sensors=3)
    assert len(page.figures) == 3
    assert "3 of 7 sensors are drawn" in page.text
    assert "4 are left out.calm-1, calm-2, calm-3, calm-4" in page.text
    ordered = [trace.sensor_id for trace in worst_first(traces, incidents_of(alerts))]
    assert ordered[:3] == ["bad", "mild", "calm-0"]


def test_of_many_channels_those_in_incidents_are_drawn(tmp_path: Path) -> None:
    """Of 38 channels eight are drawn, the guilty first, and the others are named."""
    names = [f"c{number}" for number in range(38)]
    alerts = [make_alert("pump", contributions={"c30": 0.6, "c7": 0.3})]
    page = report(tmp_path / "run.html", [make_trace("pump", channels=38)], alerts, channels=names)
    drawn = [line["name"] for line in page.figures[0]["data"]]
    assert drawn[:8] == ["c30", "c7", "c0", "c1", "c2", "c3", "c4", "c5"]
    assert "30 channels with a smaller part in the incidents are left out: c6, c8," in page.text
    assert choose_channels(["a", "b"], incidents_of([make_alert("pump", contributions={"b": 1.0})]))[0] == [
        0,
        1,
    ]


@pytest.mark.parametrize("spike", [0, 1, 123_456, 199_998, 199_999])
def test_thinning_keeps_spikes(spike: int) -> None:
    """A single high and a single low reading survive wherever they are, within the budget of points."""
    values = np.random.default_rng(0).normal(size=200_000)
    values[spike], values[-1 - spike] = 50.0, -50.0
    rows = thin(values)
    assert {spike, 199_999 - spike} <= set(rows.tolist())
    assert len(rows) <= POINTS
    assert np.all(np.diff(rows) > 0)


def test_thinning_keeps_gaps() -> None:
    """A gap of NaN stays a gap from its first to its last row, also a short one and one at the start."""
    values = np.random.default_rng(0).normal(size=200_000)
    for first, after in ((0, 700), (50_000, 90_000), (120_000, 120_003)):
        values[first:after] = np.nan
    rows = thin(values)
    for first, after in ((50_000, 90_000), (120_000, 120_003)):
        assert {first - 1, first, after} <= set(rows.tolist())
        assert not np.any((rows > first) & (rows < after))
    assert np.isnan(values[rows[0]])
    assert 700 in rows


def test_thinning_looks_closer_at_incidents() -> None:
    """Rows in focus are drawn more densely than the rest."""
    values = np.random.default_rng(0).normal(size=1_000_000)
    focus = np.zeros(len(values), dtype=np.bool_)
    focus[400_000:401_000] = True
    rows = thin(values, focus)
    assert np.sum((rows >= 400_000) & (rows < 401_000)) > 300
    assert len(rows) <= POINTS


def test_silence_breaks_the_line() -> None:
    """Hours without a reading become a gap; late readings are put in their place."""
    time_ms = np.array([0, 1, 2, 4, 3, 5, 1_000, 1_001], dtype=np.int64)
    ordered, columns = break_silences(time_ms, time_ms.astype(np.float64).reshape(-1, 1))
    assert ordered.tolist() == [0, 1, 2, 3, 4, 5, 6, 1_000, 1_001]
    assert np.flatnonzero(np.isnan(columns[:, 0])).tolist() == [6]


def test_sparse_scores_make_a_line() -> None:
    """A score at every eighth reading is a line without gaps; a pause in scoring is a gap."""
    score = np.full(800, np.nan)
    score[::8] = 1.0
    score[400:500] = np.nan
    rows = scored_rows(np.arange(800, dtype=np.int64), score)
    assert np.flatnonzero(np.isnan(score[rows])).tolist() == [50]


def test_lonely_readings_are_dots() -> None:
    """A reading between two missing ones is drawn, although no line reaches it."""
    trace = make_trace("pump")
    values = trace.values.copy()
    values[::2, 0] = np.nan
    picture = draw(SensorTrace("pump", trace.time_ms, values, trace.score, trace.threshold), ["a", "b"], [], [])
    assert [line["mode"] for line in picture.figure["data"][:2]] == ["lines+markers", "lines"]


@pytest.mark.parametrize(("peak", "axis"), [(500.0, "log"), (5.0, "linear")])
def test_log_axis_only_where_it_helps(peak: float, axis: str) -> None:
    """The score's axis is logarithmic when its peaks would flatten everything else."""
    trace = make_trace("pump")
    trace.score[150] = peak
    assert draw(trace, ["a", "b"], [], []).figure["layout"]["yaxis3"]["type"] == axis


def test_empty_run(tmp_path: Path) -> None:
    """No traces, or a sensor without readings and scores, still give a page."""
    none = np.empty(0)
    hollow = SensorTrace("new", none.astype(np.int64), np.empty((0, 2)), none, none, minute(3))
    assert report(tmp_path / "none.html", [], []).figures == []
    assert "No readings." in report(tmp_path / "hollow.html", [hollow], [make_alert("new", "opened")]).text


def test_unwritable_path(tmp_path: Path) -> None:
    """A folder that does not exist is named, and nothing is left behind."""
    path = tmp_path / "missing" / "run.html"
    with pytest.raises(OutputError, match=re.escape(str(path))):
        report(path, [], [])
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="choose a file"):
        report(tmp_path / "folder", [], [])
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


def test_without_plotly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, before anything is written."""
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'stream-detector[report]'")):
        report(tmp_path / "run.html", [], [])
    assert list(tmp_path.iterdir()) == []
