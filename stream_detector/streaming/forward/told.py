"""Which incidents a receiver has been told of, and so which steps it is to be told.

Pure: steps in, answers out. An incident is told of from its first step that is asked for on, to its end; one that was
never told is not ended either. Where a step could not be delivered, all that follow it wait with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream_detector.records import Alert
from stream_detector.streaming.wanted import Wanted


class Told:
    """The open incidents that a receiver knows, each by its latest step."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._open: dict[str, Alert] = {}

    @property
    def going_on(self) -> Sequence[Alert]:
        """The latest step of each open incident."""
        return list(self._open.values())

    def before(self, alert: Alert) -> Alert | None:
        """The step of the same incident that was told last, while it is open."""
        return self._open.get(alert.alert_id)

    def asks_for(self, alert: Alert) -> bool:
        """Whether this step is to be told."""
        return alert.alert_id in self._open or (alert.event != "closed" and self._wanted.has(alert))

    def note(self, alert: Alert) -> None:
        """Take a step for told."""
        if alert.status == "resolved":
            self._open.pop(alert.alert_id, None)
        else:
            self._open[alert.alert_id] = alert
