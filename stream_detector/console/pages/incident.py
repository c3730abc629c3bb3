"""The page of an incident: what happened, why, how it went on, and a person's answer."""

from __future__ import annotations

from fastapi import Request
from nicegui import run, ui

from stream_detector.console import phrases, view
from stream_detector.console.incidents import Incident
from stream_detector.console.pages.frame import (
    REFRESH_S,
    Console,
    anchor,
    cookie_of,
    element,
    every,
    page,
    sign_in_target,
    words,
)
from stream_detector.console.pages.plot import Plot
from stream_detector.console.pages.sensor import bar
from stream_detector.errors import StreamDetectorError
from stream_detector.records import SEVERITIES, Channel, Verdict
from stream_detector.streaming.answers_file import SCORED, Reply

MEANINGS = {
    "false_positive": "Nothing was wrong. Such a score does not alert again, and the incident is closed.",
    "confirmed": "Something was wrong. It is not learned as normal.",
    "change_point": "This is how things are from now on. The sensor's level is found anew.",
    "maintenance": "It is worked on. Nothing is told of it up to the time below.",
}
MEMBERS = 50


def incident(console: Console, request: Request) -> None:
    """Build the page."""
    alert_id = request.query_params.get("id", "")
    with page(console, request, "Incident") as signed_in:
        place = element("div", "incident-page")
        Whole(console, request, alert_id, signed_in, place)


class Whole:
    """All of an incident; built when it is known, and kept up to date."""

    def __init__(self, console: Console, request: Request, alert_id: str, signed_in: bool, place: ui.element) -> None:
        self._console, self._request, self._alert_id = console, request, alert_id
        self._signed_in, self._place = signed_in, place
        self._built = False
        self._seen: object = None
        with place:
            words("Looking for the incident ...", "headline")
        every(REFRESH_S, self.refresh)

    def refresh(self) -> None:
        """Bring it up to date where something has changed."""
        feed = self._console.feed
        with feed.lock:
            one = feed.book.find(self._alert_id)
            steps, number = (list(one.steps), one.number) if one else ([], 0)
            answers = list(feed.book.answers.get(self._alert_id, ()))
        said = tuple(phrases.answer_words(answer, feed.taken(answer)) for answer in answers)
        now = (number, said, feed.status.alerts_s > 0)
        if now == self._seen:
            return
        self._seen = now
        if not steps:
            self._missing()
            return
        found = Incident(steps, number)
        if not self._built:
            self._built = True
            self._place.clear()
            with self._place:
                self._build(found)
        self._show(found, said)

    def _missing(self) -> None:
        self._place.clear()
        with self._place:
            words("No such incident", "headline")
            words(
                "It is not among the alerts that are retained and were read: check the address, or wait until Kafka "
                "is reached if it is away."
                if self._console.feed.status.alerts_s
                else "The alerts are still being read.",
                "faint",
            )

    def _build(self, one: Incident) -> None:
        self._state = words("", "state")
        self._title = words("", "headline")
        self._why = words("", "why")
        telling = one.telling
        with element("p", "links"):
            anchor(view.sensor_target(one.last.sensor_id), f"Sensor {one.last.sensor_id}")
        self._members = element("p", "links members")
        if one.last.kind != "state_gap":
            channel = telling.channels[0].name if telling.channels else ""
            Plot(self._console, one.last.sensor_id, self._focus, channel)
        self._channels = element("section", "channels")
        words("Your answer", "subhead")
        self._answers = element("ul", "answers", role="status")
        self._build_buttons(one)
        words("Its life", "subhead")
        self._life = element("ul", "life")
        words("What said so", "subhead")
        self._weights = words("", "weights")

    def _show(self, one: Incident, answers: tuple[str, ...]) -> None:
        row = view.rows([one])[0]
        severity = SEVERITIES[one.severity]
        kind = phrases.KINDS.get(one.last.kind, one.last.kind)
        facts = (SEVERITIES[one.severity], kind, row.state, phrases.lasting(one))
        self._state.set_text(" · ".join(filter(None, facts)))
        self._state.classes(replace=f"words state {severity}")
        self._title.set_text(one.last.summary)
        self._why.set_text(phrases.why(one))
        self._members.clear()
        with self._members:
            for name in one.last.members[:MEMBERS] if one.last.group else ():
                anchor(view.sensor_target(name), name, "chip")
        self._channels.clear()
        with self._channels:
            for channel in one.telling.channels:
                _channel(channel)
        self._answers.clear()
        with self._answers:
            for text in answers or ("None yet.",):
                element("li", "", text)
        self._life.clear()
        with self._life:
            for step in one.steps:
                with element("li", f"step {step.severity}"):
                    words(f"{phrases.clock(step.window.end)} · {phrases.step_words(step)}", "faint")
                    words(step.summary)
                    if step.score is not None and step.threshold is not None:
                        words(f"score {step.score:.4g}, threshold {step.threshold.value:.4g}", "faint")
        self._weights.set_text(_weights(one))

    def _focus(self) -> tuple[int, int] | None:
        with self._console.feed.lock:
            one = self._console.feed.book.find(self._alert_id)
            if one is None:
                return None
            begin, end = map(phrases.parsed, (one.first.starts_at, one.last.ends_at or one.last.window.end))
        return None if begin is None or end is None else (begin, end)

    def _build_buttons(self, one: Incident) -> None:
        if not self._signed_in:
            if self._console.gate.possible:
                anchor(sign_in_target(self._request), "Sign in to answer")
            else:
                words("Nobody can answer here, since the setting console.token gives no token.", "faint")
            return
        self._cookie = cookie_of(self._request)
        self._note = ui.input("Note (optional)").props("dense outlined maxlength=500").classes("note")
        scored = one.last.kind in SCORED
        with element("div", "answer-row"):
            for verdict, meaning in MEANINGS.items():
                if scored or verdict in ("confirmed", "maintenance"):
                    self._button(verdict, meaning)  # type: ignore[arg-type]

    def _button(self, verdict: Verdict, meaning: str) -> None:
        with element("div", "answer"):
            text = "Maintenance" if verdict == "maintenance" else phrases.VERDICTS[verdict].capitalize()
            button = ui.button(text, on_click=lambda: self._answer(verdict)).props("no-caps unelevated")
            button.classes("answer-button").mark(verdict)
            words(meaning, "faint small")
            if verdict == "maintenance":
                self._until = ui.input("Until (UTC)").props("dense outlined type=datetime-local stack-label")

    async def _answer(self, verdict: Verdict) -> None:
        """Send an answer, if the browser that the page was built for may still do so."""
        if not self._console.gate.knows(self._cookie):
            ui.notify("You are no longer signed in: nothing was sent. Sign in once more.", type="negative")
            return
        times: tuple[str | None, str | None] = (None, None)
        if verdict == "maintenance":
            if not self._until.value:
                ui.notify("Say until when it is worked on.", type="warning")
                return
            with self._console.feed.lock:
                known = self._console.feed.book.find(self._alert_id)
            times = (known.first.starts_at if known else None, str(self._until.value))
        reply = Reply(verdict, times, self._note.value or None)
        try:
            await run.io_bound(self._console.feed.send, self._alert_id, reply)
        except StreamDetectorError as error:
            ui.notify(f"Nothing was sent: {error}", type="negative", timeout=10_000)
            return
        ui.notify(f"Sent: {phrases.VERDICTS[verdict]}", type="positive")


def _channel(channel: Channel) -> None:
    """What came, and what was expected."""
    with element("div", "channel"):
        bar(channel.name, f"{channel.contribution:.0%}")
        usual = (
            f", usual {phrases.number(channel.lower)} to {phrases.number(channel.upper)}"
            if channel.lower is not None and channel.upper is not None
            else ""
        )
        words(f"{phrases.number(channel.actual)} came, {phrases.number(channel.expected)} was expected{usual}", "faint")


def _weights(one: Incident) -> str:
    model = one.telling.model or one.last.model
    if model is None:
        return "No weights: this rests on the readings themselves."
    return (
        f"{model.name} {model.version} ({model.digest}). How it came to be: stream-detector replay {one.last.alert_id}"
    )
