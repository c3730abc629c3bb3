"""Incidents, times and numbers in words. Pure: text from outside goes in as it is, and comes out as text."""

from __future__ import annotations

from stream_detector.console.incidents import Answer, Incident
from stream_detector.records import Alert, Channel, format_duration, parse_time

VERDICTS = {
    "false_positive": "false alarm",
    "confirmed": "confirmed",
    "change_point": "change point",
    "maintenance": "maintenance",
}
CLOSED = {
    "recovered": "recovered",
    "timed_out": "taken as the new normal after a long time",
    "silent": "the sensor fell silent",
    "false_positive": "answered: false alarm",
    "change_point": "answered: change point",
    "maintenance": "answered: maintenance",
}
KINDS = {
    "anomaly": "anomaly",
    "regime_change": "regime change",
    "sensor_silent": "silent sensor",
    "value_stuck": "stuck value",
    "value_missing": "missing value",
    "clock_skewed": "wrong clock",
    "state_gap": "state lost",
}


def lasting(one: Incident) -> str:
    """How long it has gone on, in event time."""
    begin, end = parsed(one.first.starts_at), parsed(one.last.ends_at or one.last.window.end)
    if begin is None or end is None or end <= begin:
        return "just begun" if one.open else ""
    return f"{'for' if one.open else 'lasted'} {format_duration(end - begin)}"


def clock(text: str | None) -> str:
    """A time as people write it; what is none is shown as it is."""
    moment = parsed(text or "")
    return (text or "") if moment is None else (text or "").replace("T", " ").replace("Z", " UTC")


def age(span_s: float) -> str:
    """How long ago, in words."""
    if span_s < 2:
        return "just now"
    return f"{format_duration(int(span_s) * 1000)} ago"


def number(value: float | None) -> str:
    """A value of a reading or a score to four digits; a dash where there is none."""
    return "-" if value is None else f"{float(f'{value:.4g}'):.10g}"


def big(value: float) -> str:
    """A count, short enough for a tile."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def why(one: Incident) -> str:
    """Why there is an incident, in one sentence."""
    step = one.telling
    if step.kind != "anomaly" or not step.channels:
        return f"{step.summary}."
    worst = step.channels[0]
    parts = [f"{worst.name} {_against(worst)}, which is {worst.contribution:.0%} of the score"]
    if step.score is not None and step.threshold is not None:
        scope = "this sensor's own" if step.threshold.scope == "sensor" else "the fleet's"
        parts.append(
            f"the score {step.score:.3g} exceeds {scope} threshold of {step.threshold.value:.3g}"
            f" (budget {step.threshold.budget})"
        )
    if step.p_value is not None:
        parts.append(f"a normal reading scores so high {_seldom(step.p_value)}")
    return f"{'; '.join(parts)}."


def _against(channel: Channel) -> str:
    if channel.actual is None:
        return f"is missing where {number(channel.expected)} was expected"
    if channel.lower is not None and channel.upper is not None:
        return f"is {number(channel.actual)} where {number(channel.lower)} to {number(channel.upper)} was expected"
    return f"is {number(channel.actual)} where {number(channel.expected)} was expected"


def _seldom(p_value: float) -> str:
    times = 1 / max(p_value, 1e-300)
    if times < 1e12:
        return f"once in {times:,.0f} times" if times < 1e6 else f"once in {times:.0e} times".replace("e+", "e")
    return "practically never"


def step_words(step: Alert) -> str:
    """What a step in an incident's life is."""
    if step.event == "closed":
        return CLOSED.get(step.close_reason or "", "closed")
    return "opened" if step.event == "opened" else "went on"


def answer_words(answer: Answer, taken: bool | None) -> str:
    """What was answered, and whether the worker has taken it. taken: None where that cannot be known now."""
    said = VERDICTS.get(answer.feedback.verdict, answer.feedback.verdict)
    if answer.feedback.verdict == "maintenance":
        said += f" from {clock(answer.feedback.begins)} until {clock(answer.feedback.ends)}"
    if taken is None:
        return f"{said}: sent; whether the worker has taken it cannot be seen while its state is not to be reached"
    return f"{said}: {'taken by the worker' if taken else 'sent, the worker has not taken it yet'}"


def parsed(text: str) -> int | None:
    """Milliseconds of a time; None where it is none."""
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        return None
