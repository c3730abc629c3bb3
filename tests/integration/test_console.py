"""The console's pages against a real broker and a real store, without a browser; `test_console_browser` has that."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nicegui.testing import User
from nicegui.testing.user_simulation import user_simulation

from stream_detector.console.app import add_pages, new_console
from stream_detector.console.auth import COOKIE
from stream_detector.console.pages.frame import Console
from stream_detector.local import LocalKafka, LocalRedis
from stream_detector.records import Alert, Feedback, parse_time
from stream_detector.settings import KafkaSettings, RedisSettings, Settings
from stream_detector.streaming import answers_file
from stream_detector.streaming.envelope import alert_message
from stream_detector.streaming.topics import Message, produce, read_topic
from tests.alerts import alert
from tests.integration.consoles import CALM, FAULT, NASTY, TOKEN, at_work, calm, readings, with_token
from tests.integration.streams import Running, alerts_of, drain, make_topics, send, settings_for
from tests.integration.workers import wait_until

SENSOR, OTHER = "pump-2", "pump-4"
PATIENCE_S = 30.0


@pytest.fixture
def settings(kafka: str, redis_url: str, topic: str, made: dict[tuple[str, ...], Path]) -> Settings:
    """Settings of workers and console, with the test's own topics, and a sensor that has been calm."""
    return calm(with_token(settings_for(kafka, redis_url, topic, made)), SENSOR)


@pytest.fixture
def worker(settings: Settings) -> Iterator[Running]:
    """A worker at work."""
    with at_work(settings) as running:
        yield running


@asynccontextmanager
async def looking(settings: Settings) -> AsyncIterator[tuple[User, Console]]:
    """Somebody with a browser, as far as the server can see."""
    console = new_console(settings)
    before = dict(sys.modules)
    try:
        async with user_simulation() as user:
            add_pages(console)
            console.feed.start()
            try:
                yield user, console
            finally:
                console.histories.stop()
                console.feed.stop()
    finally:
        # The library forgets the modules that hold pages, and their packages: other tests would get second ones.
        sys.modules.update(before)


def looked(settings: Settings, what: Callable[[User, Console], Awaitable[None]]) -> None:
    """Do something with the pages."""

    async def run() -> None:
        async with looking(settings) as (user, console):
            await what(user, console)

    asyncio.run(run())


async def see(user: User, *texts: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until all of this is on the page, as it is, without reloading."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            for text in texts:
                await user.should_see(text)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def sign_in(user: User, token: str = TOKEN, then: str = "/") -> int:
    """Send the form; the status that comes back."""
    answer = await user.http_client.post("/sign-in", data={"token": token, "then": then})
    return answer.status_code


def fault(settings: Settings, begin: int = CALM, far: float = 40.0) -> Alert:
    """Let the sensor go wrong, and wait for the alert of it."""
    known = {alert.alert_id for alert in alerts_of(settings)}
    send(settings, readings(SENSOR, begin, begin + FAULT, far))
    wait_until(lambda: [a for a in alerts_of(settings) if a.alert_id not in known], "there is an alert")
    return next(alert for alert in alerts_of(settings) if alert.alert_id not in known)


def answers(settings: Settings) -> list[Feedback]:
    """What has been sent to the topic of feedback."""
    found = read_topic(settings.kafka, settings.kafka.feedback_topic)
    return [answers_file.decode(record.value or b"", Feedback) for record in found]


def test_a_fault_appears_by_itself(settings: Settings, worker: Running) -> None:
    """The page is open before there is an alert; and the fleet's numbers are those that are saved."""

    async def what(user: User, console: Console) -> None:
        await user.open("/")
        await see(user, "No open incidents")
        await asyncio.to_thread(fault, settings)
        await see(user, "1 open incident", SENSOR)
        await asyncio.to_thread(wait_until, lambda: console.feed.fleet.weights, "the weights are known")
        fleet = console.feed.fleet
        assert (fleet.sensors, fleet.lag, fleet.dead_letters) == (1, 0, 0)
        assert fleet.weights[0].name == "moving-z"
        assert fleet.weights[0].created

    looked(settings, what)


def test_nobody_answers_without_the_token(settings: Settings, worker: Running) -> None:
    """There is nothing to press; a wrong token is refused; and what was pressed after signing out sends nothing."""
    alert = fault(settings)

    async def what(user: User, console: Console) -> None:
        page = f"/incident?id={alert.alert_id}"
        await user.open(page)
        await see(user, "Its life", "Sign in to answer")
        await user.should_not_see("False alarm")
        assert await sign_in(user, "a-token-of-another") == 403
        assert COOKIE not in user.http_client.cookies
        user.http_client.cookies.set(COOKIE, "99999999999.00.ff")
        await user.open(page)
        await see(user, "Its life")
        await user.should_not_see("False alarm")
        user.http_client.cookies.clear()
        assert await sign_in(user) == 303
        await user.open(page)
        await see(user, "False alarm")
        console.gate.forget(dict(user.http_client.cookies))
        user.find("False alarm").click()
        await asyncio.sleep(1)
        assert answers(settings) == []

    looked(settings, what)


def test_a_cookie_is_for_this_page_alone(settings: Settings) -> None:
    """Scripts cannot read it, other sites cannot use it, and the form leads to no other site."""

    async def what(user: User, console: Console) -> None:
        for then, place in (
            ("/incident?id=1", "/incident?id=1"),
            ("//evil.example", "/"),
            ("https://evil.example", "/"),
        ):
            answer = await user.http_client.post("/sign-in", data={"token": TOKEN, "then": then})
            assert answer.headers["location"] == place
            flags = answer.headers["set-cookie"].lower()
            assert "httponly" in flags
            assert "samesite=strict" in flags
        form = await user.http_client.get("/sign-in", params={"then": '/"><script>'})
        assert "<script>" not in form.text.partition("<body")[2]

    looked(settings, what)


def test_a_false_alarm_closes_the_incident_and_raises_the_threshold(settings: Settings, worker: Running) -> None:
    """The page says when the worker has taken it; the next fault below it, which another sensor tells, stays silent."""
    send(settings, readings(OTHER, 0, CALM, partition=1))
    send(settings, readings(OTHER, CALM, CALM + FAULT, 40.0, partition=1))
    wait_until(lambda: {one.sensor_id for one in alerts_of(settings)} == {OTHER}, "the other sensor has its alert")
    alert = fault(settings)

    async def threshold(console: Console) -> float:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            viewed = console.histories.of(SENSOR)
            if viewed is not None and viewed.threshold is not None:
                return viewed.threshold[0]
            await asyncio.sleep(0.1)
        raise TimeoutError("no threshold is to be seen")

    async def what(user: User, console: Console) -> None:
        before = await threshold(console)
        assert await sign_in(user) == 303
        await user.open(f"/incident?id={alert.alert_id}")
        await see(user, "False alarm", "None yet.")
        user.find("False alarm").click()
        await see(user, "false alarm: taken by the worker", "answered: false alarm")
        assert [(one.alert_id, one.verdict) for one in answers(settings)] == [(alert.alert_id, "false_positive")]
        deadline = time.monotonic() + PATIENCE_S
        while await threshold(console) <= before and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        assert await threshold(console) > before
        assert await threshold(console) > (alert.peak_score or 0) * 0.99
        await user.open("/")
        await see(user, "1 open incident", OTHER)

    looked(settings, what)
    known = {one.alert_id for one in alerts_of(settings)}
    again = CALM + FAULT + 200
    for place, name in enumerate((SENSOR, OTHER)):
        send(settings, readings(name, CALM + FAULT, again, partition=place))
        send(settings, readings(name, again, again + 1, 7.0, partition=place))
    worker.stop()
    drain(settings, 2)
    new = {one.sensor_id for one in alerts_of(settings) if one.kind == "anomaly" and one.alert_id not in known}
    assert new == {OTHER}


def test_a_maintenance_needs_its_end(settings: Settings, worker: Running) -> None:
    """Without one nothing is sent; with one the record says from when to when."""
    alert = fault(settings)

    async def what(user: User, console: Console) -> None:
        assert await sign_in(user) == 303
        await user.open(f"/incident?id={alert.alert_id}")
        await see(user, "Maintenance")
        user.find("Maintenance").click()
        await see(user, "Say until when it is worked on.")
        user.find("Until (UTC)").type("2030-01-01T08:00")
        user.find("Maintenance").click()
        await see(user, "answered: maintenance")
        assert [(one.begins, one.ends) for one in answers(settings)] == [(alert.starts_at, "2030-01-01T08:00:00Z")]

    looked(settings, what)


def test_a_sensor_is_shown_with_all_that_is_retained(settings: Settings, worker: Running) -> None:
    """Its readings, and those that come; scores that are the worker's; and its incidents."""
    alert = fault(settings)

    async def what(user: User, console: Console) -> None:
        await user.open(f"/sensor?id={SENSOR}")
        await see(user, f"{CALM + FAULT} readings", "threshold now", alert.summary.partition(": ")[2])
        columns = console.histories.of(SENSOR).columns
        scores = dict(zip(columns.scored_ms.tolist(), columns.score.tolist(), strict=True))
        assert scores[parse_time(alert.window.end)] == pytest.approx(alert.score, rel=1e-4)
        send(settings, readings(SENSOR, CALM + FAULT, CALM + FAULT + 20))
        await see(user, f"{CALM + FAULT + 20} readings")
        await user.open("/sensor?id=unknown")
        await see(user, "No reading of this sensor is among those that are retained")

    looked(settings, what)


def test_what_is_not_there_is_said(settings: Settings) -> None:
    """An incident that nobody told of, messages that are no alerts, a wrong address in the query."""
    produce(settings.kafka, [Message(settings.kafka.alerts_topic, b"x", value) for value in (b"\xff", b"{}", b"[1]")])

    async def what(user: User, console: Console) -> None:
        await user.open("/?severity=odd&since=soon&state=whatever")
        await see(user, "3 messages on the topic of alerts are none", "'soon' is no time", "No open incidents")
        await user.open("/incident?id=nothing")
        await see(user, "No such incident")
        await user.open("/sensor")
        await see(user, "no sensor is named in this address")

    looked(settings, what)


def test_names_are_text(settings: Settings, worker: Running) -> None:
    """Whatever a sensor is called, its rows, links and pages are about it."""
    send(settings, [*readings(NASTY, 0, CALM, partition=1), *readings(NASTY, CALM, CALM + FAULT, 40.0, partition=1)])
    wait_until(lambda: [a for a in alerts_of(settings) if a.sensor_id == NASTY], "there is an alert")

    async def what(user: User, console: Console) -> None:
        await user.open("/")
        await see(user, "1 open incident", NASTY)
        with console.feed.lock:
            alert_id = next(iter(console.feed.book.open))
        await user.open(f"/incident?id={alert_id}")
        await see(user, f"Sensor {NASTY}", "Its life", f"{CALM + FAULT} readings")

    looked(settings, what)


@pytest.mark.parametrize("away", ["kafka", "redis"])
def test_what_is_away_is_said(settings: Settings, away: str) -> None:
    """With the address, and what still holds."""
    nowhere = (
        {"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1")}
        if away == "kafka"
        else {"redis": RedisSettings.model_validate({"url": "redis://127.0.0.1:1/0"})}
    )

    async def what(user: User, console: Console) -> None:
        await user.open("/")
        await see(user, f"{away.capitalize()} is away", "127.0.0.1:1", limit_s=60)

    looked(settings.model_copy(update=nowhere), what)


def test_a_page_that_is_open_outlives_broker_and_store(
    tmp_path: Path, topic: str, made: dict[tuple[str, ...], Path]
) -> None:
    """What is away is said without a reload, and no longer when it is back; then what comes is shown again."""
    with LocalKafka(tmp_path / "kafka") as broker, LocalRedis(tmp_path / "redis", keep=True) as store:
        settings = with_token(settings_for(broker.address, store.url, topic, made))
        make_topics(settings, 2)

        async def what(user: User, console: Console) -> None:
            await user.open("/")
            await see(user, "No open incidents", limit_s=60)
            broker.pause()
            await see(user, "Kafka is away", limit_s=90)
            broker.resume()
            await gone(user, "Kafka is away")
            store.kill()
            await see(user, "Redis is away", limit_s=60)
            store.start()
            await gone(user, "Redis is away")
            told = alert(sensor_id="late", event="opened", seq=0)
            produce(settings.kafka, [alert_message(told, settings.kafka.alerts_topic)])
            await see(user, "1 open incident", "late")

        looked(settings, what)


async def gone(user: User, text: str, limit_s: float = 90) -> None:
    """Wait until this is no longer on the page."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            await user.should_not_see(text)
            return
        except AssertionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
