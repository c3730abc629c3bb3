"""`feedback` and what `detect --feedback` makes of it: told once, heard once, and no alert at such a score again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from stream_detector.cli import feedback as command
from stream_detector.cli import main
from stream_detector.records import Alert, Feedback, encode, parse_time
from stream_detector.settings import KafkaSettings
from stream_detector.streaming.topics import Message, Record
from tests.end_to_end.conftest import Run
from tests.unit.plant import at, noise

BUDGET = ("--budget", "1 per 20000 readings")
FAULT = 15.0
FIRST, AGAIN, LAST, END = 3297, 3400, 3300, 3500
"""Seconds of the fault and of its like, of the first file's end and of the second's."""
Call = Callable[..., tuple[int, str]]


def write(path: Path, start: int, stop: int) -> Path:
    """Readings of two sensors in turn: a fault of the first, and later the same readings with a little less of it."""
    rows = []
    for name, t, value in noise("ab", start, stop):
        if name == "a" and AGAIN - 20 <= t <= AGAIN:
            value = next(noise("a", t - AGAIN + FIRST, END))[2]
        faults = {FIRST: FAULT, AGAIN: 0.9 * FAULT} if name == "a" else {}
        rows.append(f"{at(t)},{name},{faults.get(t, value)}\n")
    path.write_text("timestamp,sensor_id,value\n" + "".join(rows))
    return path


def alerts_of(path: Path) -> list[Alert]:
    """The records of a file of alerts."""
    return [msgspec.json.decode(line, type=Alert) for line in path.read_bytes().splitlines()]


def life(alerts: list[Alert]) -> list[tuple[str, str, str | None]]:
    """Sensor, event and reason of each."""
    return [(alert.sensor_id, alert.event, alert.close_reason) for alert in alerts]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process, which is quicker; exit code and what it said on standard error."""

    def run_here(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["stream-detector", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run_here


@pytest.fixture(scope="module")
def house(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with weights, two files of readings, and the alerts of the first, of which one is still firing."""
    directory = tmp_path_factory.mktemp("house")
    write(directory / "clean.csv", 0, 3000)
    write(directory / "one.csv", 3000, LAST)
    write(directory / "two.csv", LAST, END)
    write(directory / "both.csv", 3000, END)
    done = run("train", directory / "clean.csv", "--model", "moving-z", "--window", 16, "--output", directory / "model")
    assert done.returncode == 0, done.stderr
    done = run("detect", directory / "one.csv", "--model", directory / "model", *BUDGET, "--output",
               directory / "alerts.jsonl", "--state", directory / "state")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert life(alerts_of(directory / "alerts.jsonl")) == [("a", "opened", None)]
    return directory


@pytest.fixture(scope="module")
def told(house: Path) -> Alert:
    """The alert that is answered."""
    return alerts_of(house / "alerts.jsonl")[0]


@pytest.fixture
def detect(call: Call, house: Path, tmp_path: Path) -> Callable[..., list[Alert]]:
    """Alerts of one of the files, judged with the weights."""

    def detected(name: str, *arguments: object) -> list[Alert]:
        code, said = call(
            "detect", house / name, "--model", house / "model", *BUDGET, "--output", tmp_path / "a", *arguments
        )
        assert code == 0, said
        return alerts_of(tmp_path / "a")

    return detected


def test_a_false_alarm_is_told_once(run: Run, house: Path, told: Alert, tmp_path: Path) -> None:
    """From file to file, as typed: the answer closes the incident, and its like raises none; without it, it does."""
    answers = tmp_path / "feedback.jsonl"
    given = run("feedback", told.alert_id, "--false-positive", "--note", "cleaning", "--alerts", house / "alerts.jsonl",
                "--output", answers)  # fmt: skip
    assert given.returncode == 0, given.stderr
    assert "false positive, a: written to" in given.stderr
    detected = {}
    for name, more in (("with", ["--feedback", answers]), ("without", [])):
        done = run(
            "detect", house / "both.csv", "--model", house / "model", *BUDGET, "--output", tmp_path / name, *more
        )
        assert done.returncode == 0, done.stderr
        detected[name] = alerts_of(tmp_path / name)
    assert life(detected["with"]) == [("a", "opened", None), ("a", "closed", "false_positive")]
    assert life(detected["without"]) == [("a", "opened", None), ("a", "closed", "recovered")] * 2
    assert {alert.alert_id for alert in detected["with"]} == {told.alert_id}


@pytest.fixture
def answers(call: Call, house: Path, told: Alert, tmp_path: Path) -> Path:
    """A file with one answer: a false positive."""
    path = tmp_path / "feedback.jsonl"
    assert (
        call("feedback", told.alert_id, "--false-positive", "--alerts", house / "alerts.jsonl", "--output", path)[0]
        == 0
    )
    return path


def test_the_answer_is_heard_over_a_saved_state(
    detect: Callable[..., list[Alert]], house: Path, answers: Path, tmp_path: Path
) -> None:
    """The second file goes on where the first stopped: the same alerts as of both in one run."""
    whole = detect("both.csv", "--feedback", answers)
    first = detect("one.csv", "--state", tmp_path / "state")
    second = detect("two.csv", "--state", tmp_path / "state", "--feedback", answers)
    assert life(second) == [("a", "closed", "false_positive")]
    assert [encode(alert) for alert in first + second] == [encode(alert) for alert in whole]


def test_an_answer_twice_is_one(
    call: Call, detect: Callable[..., list[Alert]], house: Path, told: Alert, answers: Path
) -> None:
    """The command says so and leaves the file; a file that holds it twice counts it once; another answer is added."""
    before, whole = answers.read_bytes(), detect("both.csv", "--feedback", answers)
    base = ("--alerts", house / "alerts.jsonl", "--output", answers)
    code, said = call("feedback", told.alert_id, "--false-positive", "--note", "again", *base)
    assert code == 0
    assert "already answered" in said
    assert answers.read_bytes() == before
    answers.write_bytes(before + before)
    assert detect("both.csv", "--feedback", answers) == whole
    assert call("feedback", told.alert_id, "--confirmed", *base)[0] == 0
    records = [msgspec.json.decode(line, type=Feedback) for line in answers.read_bytes().splitlines()]
    assert [record.verdict for record in records] == ["false_positive"] * 2 + ["confirmed"]


def test_a_maintenance_is_silent_from_its_first_moment(
    call: Call, detect: Callable[..., list[Alert]], house: Path, told: Alert, tmp_path: Path
) -> None:
    """A fault at the very reading at which it begins is not told; one at its end is. Scores are there all the same."""
    answers, scores = tmp_path / "feedback.jsonl", tmp_path / "scores.csv"
    for begins, ends, opened in ((FIRST, LAST, 1), (FIRST - 9, FIRST, 2), (FIRST, AGAIN + 1, 0), (0, LAST, 1)):
        answers.unlink(missing_ok=True)
        code, said = call("feedback", told.alert_id, "--maintenance", at(begins), at(ends), "--alerts",
                          house / "alerts.jsonl", "--output", answers)  # fmt: skip
        assert code == 0, said
        alerts = detect("both.csv", "--feedback", answers, "--scores", scores)
        assert sum(alert.event == "opened" for alert in alerts) == opened, (begins, ends, life(alerts))
        scored = [line for line in scores.read_text().splitlines() if line.startswith(at(FIRST)) and ",a," in line]
        assert float(scored[0].split(",")[2]) > 1


def test_a_change_point_ends_the_incident(
    call: Call, detect: Callable[..., list[Alert]], house: Path, told: Alert, tmp_path: Path
) -> None:
    """The level is learned anew: the fault that comes while it is, is not told."""
    answers = tmp_path / "feedback.jsonl"
    assert (
        call("feedback", told.alert_id, "--change-point", "--alerts", house / "alerts.jsonl", "--output", answers)[0]
        == 0
    )
    assert life(detect("both.csv", "--feedback", answers)) == [("a", "opened", None), ("a", "closed", "change_point")]


def test_what_cannot_be_answered(call: Call, house: Path, told: Alert, tmp_path: Path) -> None:
    """Exit code 2 and one sentence that says what to do; nothing is written."""
    output = tmp_path / "feedback.jsonl"
    files = ("--alerts", house / "alerts.jsonl", "--output", output)
    silent = msgspec.structs.replace(told, kind="sensor_silent", peak_score=None, model=None)
    (tmp_path / "silent.jsonl").write_bytes(encode(silent))
    for arguments, said in (
        ((told.alert_id, *files), "Say one of --false-positive, --confirmed, --change-point or --maintenance FROM TO"),
        ((told.alert_id, "--confirmed", "--change-point", *files), "--confirmed and --change-point are 2 answers"),
        (("no-such-id", "--confirmed", *files), "no alert with the id 'no-such-id'"),
        ((told.alert_id, "--confirmed", "--alerts", house / "alerts.jsonl"), "--alerts and --output go together"),
        ((told.alert_id, "--confirmed", "--alerts", house / "absent", "--output", output), "absent cannot be read"),
        ((told.alert_id, "--confirmed", "--alerts", house / "one.csv", "--output", output), "one.csv, line 1"),
        ((told.alert_id, "--maintenance", at(5), at(4), *files), "before it begins"),
        ((told.alert_id, "--maintenance", "now", at(4), *files), "'now' cannot be read"),
        (
            (told.alert_id, "--false-positive", "--alerts", tmp_path / "silent.jsonl", "--output", output),
            "sensor_silent",
        ),
    ):
        code, complaint = call("feedback", *arguments)
        assert code == 2
        assert said in complaint
        assert len(complaint.strip().splitlines()) == 1
    assert not output.exists()


def test_a_file_of_other_records_is_refused(call: Call, house: Path, tmp_path: Path) -> None:
    """Alerts are no answers: the file and the line are named."""
    code, said = call(
        "detect", house / "both.csv", "--model", house / "model", "--feedback", house / "alerts.jsonl"
    )  # fmt: skip
    assert code == 2
    assert "alerts.jsonl, line 1" in said


def test_topics_are_used_without_files(
    call: Call, told: Alert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The alert is looked up among the messages that name it, and the answer is sent with the sensor as its key."""
    sent: list[Message] = []
    other = msgspec.structs.replace(told, alert_id="other")
    closed = msgspec.structs.replace(told, event="closed", status="resolved", seq=1, ends_at=told.starts_at)
    values = [encode(other), b"no alert", None, encode(told), encode(closed)]
    records = [Record("told", 0, offset, 0, b"a", value, []) for offset, value in enumerate(values)]

    def read_topic(kafka: KafkaSettings, topic: str) -> list[Record]:
        assert (kafka.bootstrap_servers, topic) == ("broker:1", "told")
        return records

    monkeypatch.setattr(command, "read_topic", read_topic)
    monkeypatch.setattr(command, "produce", lambda kafka, messages: sent.extend(messages))
    (tmp_path / "s.toml").write_text(
        '[kafka]\nbootstrap_servers = "broker:1"\nalerts_topic = "told"\nfeedback_topic = "said"\n'
    )
    code, said = call("feedback", told.alert_id, "--confirmed", "--config", tmp_path / "s.toml")
    assert code == 0, said
    assert [(message.topic, message.key) for message in sent] == [("said", b"a")]
    record = msgspec.json.decode(sent[0].value or b"", type=Feedback)
    assert (record.verdict, record.ends_at) == ("confirmed", told.starts_at)
    assert parse_time(record.as_of or "") == parse_time(told.window.end)
    code, said = call("feedback", "x" + told.alert_id, "--confirmed", "--config", tmp_path / "s.toml")
    assert code == 2
    assert "no alert with the id" in said
    assert len(sent) == 1
