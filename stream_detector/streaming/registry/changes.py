"""How a line changes: a version more, another champion, a shadow, a verdict on it. Pure: no place, no clock.

Versions that nobody needs any more go with the change that makes them so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stream_detector.errors import ArtifactError
from stream_detector.records import format_time, parse_time
from stream_detector.streaming.registry.records import Line, LineRecord, Shadow, Status, Version

KEPT = 10
"""Versions of a line that are kept because they are its newest."""
KEPT_MS = 30 * 86_400_000
"""How long a version is kept after it was the champion: a worker may have been away for so long."""


def added(record: LineRecord | None, line: Line, version: Version, now_ms: int) -> LineRecord:
    """With one version more. One that is there already takes over the new metrics and decision, and no more."""
    record = record or LineRecord(line=line)
    if version.status == "refused":
        record = _without_shadow(record, version.digest)
    there = record.version(version.digest)
    if there is None:
        return _pruned(msgspec.structs.replace(record, versions=(*record.versions, version)), now_ms)
    status = there.status if there.promoted_at or there.status == "shadow" else version.status
    renewed = msgspec.structs.replace(
        there, metrics=version.metrics, decision=version.decision, parent=version.parent, status=status
    )
    return _with_version(record, renewed)


def promoted(record: LineRecord | None, line: Line, digest: str, reason: str, now_ms: int) -> LineRecord:
    """With another champion; the same one again changes nothing. Raises ArtifactError when it is not there."""
    found = None if record is None else record.version(digest)
    if record is None or found is None:
        raise _absent(line, digest)
    if record.champion == digest:
        return record
    # A version counts once among those before, so that going back and forth does not make the list longer.
    before = tuple(one for one in (*record.before, record.champion) if one is not None and one != digest)
    return _crowned(record, found, before, reason, now_ms)


def rolled_back(record: LineRecord | None, line: Line, reason: str, now_ms: int) -> LineRecord:
    """With the champion before; raises ArtifactError when there is none."""
    found = record.version(record.before[-1]) if record and record.before else None
    if record is None or found is None:
        raise ArtifactError(f"the line {line} has no champion before the present one: there is nothing to go back to")
    return _crowned(record, found, record.before[:-1], reason, now_ms)


def tried(record: LineRecord | None, line: Line, digest: str, now_ms: int) -> LineRecord:
    """With another shadow, in place of the one there is; the same one again, and the champion, change nothing.

    Raises ArtifactError when it is not there.
    """
    found = None if record is None else record.version(digest)
    if record is None or found is None:
        raise _absent(line, digest)
    if digest == record.champion or (record.shadow and digest == record.shadow.digest):
        return record
    record = _with_version(_without_shadow(record), msgspec.structs.replace(found, status="shadow"))
    shadow = Shadow(line, digest, format_time(now_ms), record.trials + 1)
    return msgspec.structs.replace(record, shadow=shadow, trials=shadow.trial)


def settled(
    record: LineRecord | None, shadow: Shadow, passed: bool, reason: str, found: Mapping[str, Any], now_ms: int
) -> LineRecord:
    """With the shadow as champion, or refused; what was found in its trial joins the version's decision.

    Raises ArtifactError when its trial is over already.
    """
    version = record.version(shadow.digest) if record and record.shadow == shadow else None
    if record is None or version is None:
        raise ArtifactError(
            f"the trial of {shadow.digest[:12]} in the line {shadow.line} has ended meanwhile: nothing was changed"
        )
    decision = {**version.decision, "passed": passed, "status": "promoted" if passed else "refused"}
    reasons = [*version.decision.get("reasons", []), reason]
    version = msgspec.structs.replace(version, decision={**decision, "reasons": reasons, "shadow": dict(found)})
    record = _with_version(_without_shadow(record), msgspec.structs.replace(version, status="challenger"))
    if passed:
        return promoted(record, shadow.line, shadow.digest, reason, now_ms)
    return _with_version(record, msgspec.structs.replace(version, status="refused"))


def _crowned(record: LineRecord, found: Version, before: Sequence[str], reason: str, now_ms: int) -> LineRecord:
    """With one of its versions as champion. A shadow's trial ends: it was held against another one."""
    now, record = format_time(now_ms), _without_shadow(record)
    found = record.version(found.digest) or found
    old = record.version(record.champion) if record.champion else None
    if old is not None:
        record = _with_version(record, msgspec.structs.replace(old, status="former", until=now))
    record = _with_version(
        record, msgspec.structs.replace(found, status="champion", promoted_at=now, until=None, reason=reason)
    )
    changed = msgspec.structs.replace(
        record, champion=found.digest, before=tuple(before), generation=record.generation + 1
    )
    return _pruned(changed, now_ms)


def _without_shadow(record: LineRecord, digest: str | None = None) -> LineRecord:
    """Without a trial (of this digest, if one is given); what was tried is a challenger, or former champion, again."""
    shadow = record.shadow
    if shadow is None or digest not in (None, shadow.digest):
        return record
    record = msgspec.structs.replace(record, shadow=None)
    found = record.version(shadow.digest)
    if found is None or found.status != "shadow":
        return record
    status: Status = "former" if found.promoted_at else "challenger"
    decision = {**found.decision, **({"status": status} if "status" in found.decision else {})}
    return _with_version(record, msgspec.structs.replace(found, status=status, decision=decision))


def _with_version(record: LineRecord, version: Version) -> LineRecord:
    """With another state of one of its versions."""
    versions = tuple(version if one.digest == version.digest else one for one in record.versions)
    return msgspec.structs.replace(record, versions=versions)


def _pruned(record: LineRecord, now_ms: int) -> LineRecord:
    """Without the versions that nobody needs any more.

    Kept are the champion, the one before, the shadow, the newest, and every one that was champion until a short while
    ago: the state of a worker that was running since then names no other.
    """
    kept = {record.champion, *record.before[-1:], *(one.digest for one in record.versions[-KEPT:])}
    kept |= {record.shadow.digest} if record.shadow else set()
    kept |= {one.digest for one in record.versions if one.until and parse_time(one.until) > now_ms - KEPT_MS}
    return msgspec.structs.replace(
        record,
        versions=tuple(one for one in record.versions if one.digest in kept),
        before=tuple(one for one in record.before if one in kept),
    )


def _absent(line: Line, digest: str) -> ArtifactError:
    """The error of a version that a line does not have."""
    return ArtifactError(f"the line {line} has no version {digest[:12]}: `stream-detector models list` shows those")
