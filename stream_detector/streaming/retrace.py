"""How an alert came to be, shown again: its records, its weights, its readings, and what these give today.

Reads only: nobody's partitions are taken over, and nothing is written anywhere. What is no longer there is said, and
the rest is shown. Dead letters are sent again by `replay`, which is another matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stream_detector.errors import ArtifactError, DataError
from stream_detector.records import Alert, Channel, format_time, parse_time
from stream_detector.settings import KafkaSettings, Overrides, Settings
from stream_detector.streaming import answers_file, retained
from stream_detector.streaming.found_weights import Found, FoundWeights
from stream_detector.streaming.registry import Registry
from stream_detector.streaming.retained import Kept, Retained
from stream_detector.streaming.topics import read_topic
from stream_detector.streaming.track import Track, nearness

SCORED = ("anomaly", "regime_change")
"""Kinds of alerts that rest on a score."""
MOST_MEMBERS = 8
"""Sensors of a group that are looked at: the one that opened the incident, and so many others."""
COMPARED = ("actual", "expected", "lower", "upper", "contribution")


@dataclass(frozen=True, slots=True)
class Step:
    """One record of the alert, and what its window comes to now. sensor_id: whose reading it is. note: why nothing."""

    told: Alert
    again: Alert | None = None
    sensor_id: str = ""
    note: str = ""

    @property
    def differing(self) -> list[str]:
        """What is not the same to the printed precision: `score`, and fields of channels."""
        if self.again is None:
            return []
        found = [] if self.told.score == self.again.score else ["score"]
        now = {channel.name: channel for channel in self.again.channels}
        for channel in self.told.channels:
            other = now.get(channel.name)
            found += [f"{channel.name} {name}" for name in COMPARED if _value(other, name) != _value(channel, name)]
        return found

    @property
    def same(self) -> bool | None:
        """Whether it comes out again as it was told; None where it could not be computed."""
        return None if self.again is None else not self.differing


@dataclass
class Retraced:
    """All that is known of an alert. found, gone: its weights by digest, or why there are none.

    lost: why the readings of its window are not there; empty where they are.
    """

    steps: list[Step]
    retained: Retained = field(default_factory=Retained)
    tracks: list[Track] = field(default_factory=list)
    found: dict[str, Found] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)
    lost: str = ""

    @property
    def first(self) -> Alert:
        """The record that it began with, or the first that is retained."""
        return self.steps[0].told

    @property
    def kept(self) -> Kept | None:
        """The readings of the sensor that it is about."""
        return self.retained.kept.get(self.first.sensor_id)

    @property
    def whole(self) -> bool:
        """Whether weights and readings are all there."""
        return not (self.gone or self.lost)

    def track(self, step: Step) -> Track | None:
        """The track that a step was found on."""
        digest = step.told.model.digest if step.told.model else ""
        near = (one for one in self.tracks if one.kept.sensor_id == step.sensor_id)
        return next((one for one in near if one.artifact.info.digest == digest), None)


def told(kafka: KafkaSettings, alert_id: str) -> list[Alert]:
    """The committed records of one alert, each once, in order; raises DataError where there are none."""
    steps = {alert.seq: alert for alert in answers_file.find(_records(kafka, alert_id), alert_id)}
    return [steps[seq] for seq in sorted(steps)]


def _records(kafka: KafkaSettings, alert_id: str) -> Iterator[Alert]:
    wanted = alert_id.encode()
    for record in read_topic(kafka, kafka.alerts_topic):
        # Most messages are of other alerts: only those that name the id are looked into.
        if wanted in (record.value or b""):
            try:
                yield answers_file.decode(record.value or b"", Alert)
            except DataError as error:
                raise DataError(f"{record.topic}/{record.partition}, offset {record.offset}: {error}") from error


def retrace(settings: Settings, registry: Registry, alerts: list[Alert], given: Path | None, most: int) -> Retraced:
    """Compute an alert again from what is retained.

    alerts: its records. given: a directory with the weights. most: messages that are read at most, before it and
    behind it. Raises TransportError where the broker or its topic is away.
    """
    first = alerts[0]
    out = Retraced([Step(alert, sensor_id=alert.sensor_id) for alert in alerts])
    if first.kind == "state_gap":
        return out
    sensor_ids = list(dict.fromkeys([first.sensor_id, *alerts[-1].members]))[: 1 + MOST_MEMBERS]
    window_end = parse_time(first.window.end)
    arrived = parse_time(first.detected_at) if first.detected_at else window_end
    out.retained = retained.look(settings, sensor_ids, first.group, [arrived, window_end], most)
    out.lost = _lost(out, most)
    if first.kind in SCORED:
        scored = [alert for alert in alerts if alert.score is not None]
        _find_weights(settings, FoundWeights(settings, registry, given), out, scored)
        _judge(settings, out, scored)
        out.steps = [_step(out, alert) for alert in alerts]
    return out


def _find_weights(settings: Settings, weights: FoundWeights, out: Retraced, scored: Sequence[Alert]) -> None:
    """Find the weights of each record, or say why there are none."""
    overrides = Overrides(settings.sensors)
    for alert in scored:
        if alert.model is None or alert.model.digest in {*out.found, *out.gone}:
            continue
        digest, said = alert.model.digest, ""
        kept = sorted(out.retained.kept.values(), key=lambda one: one.sensor_id != alert.sensor_id)
        named = (alert.sensor_id, tuple(sorted(channel.name for channel in alert.channels)))
        for sensor_id, channels in dict.fromkeys([*((one.sensor_id, one.channels) for one in kept), named]):
            model = overrides.of(sensor_id).model or settings.detector.model
            try:
                out.found[digest] = weights.of(alert.model, model, channels)
                break
            except ArtifactError as error:
                said = said or str(error)
        else:
            out.gone[digest] = said


def _judge(settings: Settings, out: Retraced, scored: Sequence[Alert]) -> None:
    """Judge the sensors anew with each of the weights that fit them."""
    for digest, found in out.found.items():
        for kept in out.retained.kept.values():
            if sorted(kept.channels) == sorted(found.artifact.channels):
                row, until = out.retained.rows.get(kept.sensor_id), out.retained.until.get(kept.partition, 0)
                row = row if row and row.partition == kept.partition else None
                track = Track(settings, kept, row, until, found.artifact, out.retained.away)
                track.run([alert for alert in scored if alert.model and alert.model.digest == digest])
                out.tracks.append(track)


def _step(out: Retraced, alert: Alert) -> Step:
    """One record: the member of the alert whose window it is, and what that comes to."""
    if alert.score is None or alert.model is None:
        return Step(alert, sensor_id=alert.sensor_id, note="it comes with no score")
    if alert.model.digest in out.gone:
        return Step(alert, sensor_id=alert.sensor_id, note="its weights are gone")
    best = Step(alert, sensor_id=alert.sensor_id, note="its window is not retained whole")
    for track in out.tracks:
        again = track.again(alert)
        if again is not None and (best.again is None or nearness(alert, again) < nearness(alert, best.again)):
            best = Step(alert, again, track.kept.sensor_id)
    return best


def _lost(out: Retraced, most: int) -> str:
    """Why the readings of the window with which the alert began are not there; nothing where they are."""
    first, kept, found = out.first, out.kept, out.retained
    begin, end = parse_time(first.window.start), parse_time(first.window.end)
    wanted = f"the readings of {first.window.start} to {first.window.end}"
    if kept is not None and first.kind == "clock_skewed" and len(kept.aside):
        return ""  # its window is of arrivals, and its readings are those that were set aside
    if kept is not None and len(kept) and kept.time_ms.min() <= begin and kept.time_ms.max() >= end:
        return ""
    if found.skipped:
        return f"{wanted} are not among the {most:,} messages before it: look further back with --messages"
    if kept is not None and len(kept):
        return f"{wanted} are no longer retained: those of {first.sensor_id} that are there begin at {_at(kept)}"
    since = "" if found.from_ms is None else f", whose first message is of {format_time(found.from_ms)}"
    return f"{wanted} are no longer retained: nothing of {first.sensor_id} is in the topic{since}"


def _at(kept: Kept) -> str:
    return format_time(int(kept.time_ms.min()))


def _value(channel: Channel | None, name: str) -> float | None:
    value: float | None = getattr(channel, name, None)
    return value
